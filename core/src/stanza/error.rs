use super::StanzaBuilder;
use crate::ns;
use crate::xml::Element;

/// What the other side should do about an error (RFC 6120 §8.3.2).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum ErrorType {
    /// Retry after providing credentials.
    Auth,
    /// Do not retry.
    Cancel,
    /// Go on; it was only a warning.
    Continue,
    /// Retry after changing what was sent.
    Modify,
    /// Retry after waiting.
    Wait,
}

impl ErrorType {
    /// The attribute's value.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Auth => "auth",
            Self::Cancel => "cancel",
            Self::Continue => "continue",
            Self::Modify => "modify",
            Self::Wait => "wait",
        }
    }

    /// The type `text` names.
    pub fn parse(text: &str) -> Option<Self> {
        Some(match text {
            "auth" => Self::Auth,
            "cancel" => Self::Cancel,
            "continue" => Self::Continue,
            "modify" => Self::Modify,
            "wait" => Self::Wait,
            _ => return None,
        })
    }
}

macro_rules! conditions {
    ($($name:ident $text:literal $type_:ident),* $(,)?) => {
        /// The defined conditions of a stanza error (RFC 6120 §8.3.3).
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
        #[allow(missing_docs)] // The names are the RFC's.
        pub enum Condition { $($name),* }

        impl Condition {
            /// All of them, in the RFC's order.
            pub const ALL: &[Self] = &[$(Self::$name),*];

            /// The element's name.
            pub fn as_str(self) -> &'static str {
                match self { $(Self::$name => $text),* }
            }

            /// The error type the RFC associates with it.
            pub fn default_type(self) -> ErrorType {
                match self { $(Self::$name => ErrorType::$type_),* }
            }
        }
    };
}

conditions! {
    BadRequest "bad-request" Modify,
    Conflict "conflict" Cancel,
    FeatureNotImplemented "feature-not-implemented" Cancel,
    Forbidden "forbidden" Auth,
    Gone "gone" Cancel,
    InternalServerError "internal-server-error" Cancel,
    ItemNotFound "item-not-found" Cancel,
    JidMalformed "jid-malformed" Modify,
    NotAcceptable "not-acceptable" Modify,
    NotAllowed "not-allowed" Cancel,
    NotAuthorized "not-authorized" Auth,
    PolicyViolation "policy-violation" Modify,
    RecipientUnavailable "recipient-unavailable" Wait,
    Redirect "redirect" Modify,
    RegistrationRequired "registration-required" Auth,
    RemoteServerNotFound "remote-server-not-found" Cancel,
    RemoteServerTimeout "remote-server-timeout" Wait,
    ResourceConstraint "resource-constraint" Wait,
    ServiceUnavailable "service-unavailable" Cancel,
    SubscriptionRequired "subscription-required" Auth,
    UndefinedCondition "undefined-condition" Cancel,
    UnexpectedRequest "unexpected-request" Wait,
}

impl Condition {
    /// The condition whose element is `name`.
    pub fn parse(name: &str) -> Option<Self> {
        Self::ALL.iter().copied().find(|condition| condition.as_str() == name)
    }
}

/// What an `<error/>` in a stanza says (RFC 6120 §8.3.2). It is data from the other side, not a
/// failure of this one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StanzaError {
    /// What to do about it.
    pub type_: ErrorType,
    /// What it is.
    pub condition: Condition,
    /// A description for people.
    pub text: Option<String>,
}

impl StanzaError {
    /// The error `condition`, with the type that RFC 6120 §8.3.3 associates with it.
    pub fn new(condition: Condition) -> Self {
        Self { type_: condition.default_type(), condition, text: None }
    }

    /// The same error with a description.
    #[must_use]
    pub fn with_text(mut self, text: impl Into<String>) -> Self {
        self.text = Some(text.into());
        self
    }

    /// Reads an `<error/>`. A condition that is absent or unknown is `undefined-condition`, and a
    /// type that is absent or unknown is that of the condition.
    pub fn from_element(error: &Element) -> Self {
        let mut conditions = error.children().filter(|child| child.ns() == ns::STANZA_ERRORS);
        let condition = conditions
            .find_map(|child| Condition::parse(child.name()))
            .unwrap_or(Condition::UndefinedCondition);
        let type_ = error.attr("type").and_then(ErrorType::parse);
        Self {
            type_: type_.unwrap_or_else(|| condition.default_type()),
            condition,
            text: error.child("text", ns::STANZA_ERRORS).map(Element::text),
        }
    }
}

impl StanzaBuilder {
    /// Adds `<error/>`; the type of the stanza must be `error`.
    #[must_use]
    pub fn error(self, error: &StanzaError) -> Self {
        let condition = Element::new(error.condition.as_str(), ns::STANZA_ERRORS);
        let mut element =
            Element::new("error", "").with_attr("type", error.type_.as_str()).with_child(condition);
        if let Some(text) = &error.text {
            element.push(Element::new("text", ns::STANZA_ERRORS).with_text(text));
        }
        // Written where no namespace is declared, it is in the one of the stanza around it.
        self.element(&element, &crate::xml::Scope::empty())
    }
}
