use super::*;

#[test]
fn an_account_is_one_address() {
    let account = Jid::parse("bot@x.example/bot").unwrap();
    let addresses = Addresses::of_account("shop", &account).unwrap();
    let own = |text: &str| addresses.is_own(&WireJid::new(text));
    assert!(own("bot@x.example") && own("BOT@x.example/other"));
    assert!(!own("x.example") && !own("alice@x.example") && !own("bot@y.example"));
    for from in
        ["", "bot@x.example", "Bot@x.example/other", "shop@appspot.com", "bot@shop.appspotchat.com"]
    {
        assert_eq!(addresses.sender(Some(from)).expect(from).as_str(), "bot@x.example/bot");
    }
    for from in ["shop@x.example", "alice@x.example", "any@shop.appspotchat.com", "x.example"] {
        let error = addresses.sender(Some(from)).expect_err(from);
        assert_eq!(error.kind(), ErrorKind::InvalidSender, "{from}");
    }
    assert_eq!(addresses.store_key(), "bot@x.example");
    let shown = addresses.with_presentation(Presentation::AppEngine);
    let present = |text: &str| shown.present(&WireJid::new(text)).into_owned();
    assert_eq!(present("bot@x.example/r"), "shop@appspot.com/r");
    assert_eq!(present("alice@x.example/r"), "alice@x.example/r");
}

fn shop() -> Addresses {
    Addresses::new("s~shop", "Bot.Example.com").unwrap()
}

fn sender(from: &str) -> String {
    shop().sender(Some(from)).unwrap().as_str().to_owned()
}

fn refusal(from: &str) -> ErrorKind {
    shop().sender(Some(from)).expect_err(from).kind()
}

#[test]
fn nobody_named_is_the_app_itself() {
    let addresses = shop();
    assert_eq!(addresses.sender(None).unwrap().as_str(), "shop@bot.example.com/bot");
    assert_eq!(addresses.sender(Some("")).unwrap().as_str(), "shop@bot.example.com/bot");
}

#[test]
fn any_name_at_the_domain_is_the_apps() {
    assert_eq!(sender("news@bot.example.com"), "news@bot.example.com/bot");
    assert_eq!(sender("News@BOT.example.com/Desk"), "news@bot.example.com/Desk");
    assert_eq!(sender("bot.example.com"), "bot.example.com/bot");
    assert_eq!(sender("a@bot.example.com/b@c/d"), "a@bot.example.com/b@c/d");
}

#[test]
fn app_engines_forms_are_aliases() {
    assert_eq!(sender("shop@appspot.com"), "shop@bot.example.com/bot");
    assert_eq!(sender("SHOP@AppSpot.com/x"), "shop@bot.example.com/x");
    assert_eq!(sender("news@shop.appspotchat.com"), "news@bot.example.com/bot");
    assert_eq!(sender("news@2.latest.shop.appspotchat.com/x"), "news@bot.example.com/x");
}

#[test]
fn a_served_version_keeps_its_own_domain() {
    let addresses = shop().with_versions(["Beta"]).unwrap();
    let of = |from| addresses.sender(Some(from)).map(|jid| jid.as_str().to_owned()).unwrap();
    assert_eq!(of("a@beta.latest.shop.appspotchat.com"), "a@beta.latest.bot.example.com/bot");
    assert_eq!(of("a@BETA.latest.bot.example.com"), "a@beta.latest.bot.example.com/bot");
    assert_eq!(of("a@old.latest.shop.appspotchat.com"), "a@bot.example.com/bot");
    let unserved = addresses.sender(Some("a@old.latest.bot.example.com"));
    assert_eq!(unserved.unwrap_err().kind(), ErrorKind::InvalidSender);
}

#[test]
fn a_foreign_sender_is_refused() {
    for from in [
        "other@appspot.com",
        "appspot.com",
        "a@other.appspotchat.com",
        "a@notshop.appspotchat.com",
        "a@x.shop.appspotchat.com",
        "a@.latest.shop.appspotchat.com",
        "user@example.com",
        "a@x.bot.example.com",
        "a@1.latest.bot.example.com",
        "a@xbot.example.com",
    ] {
        let kind = refusal(from);
        assert!(matches!(kind, ErrorKind::InvalidSender | ErrorKind::InvalidJid), "{from}");
    }
    assert_eq!(refusal("user@example.com"), ErrorKind::InvalidSender);
}

#[test]
fn a_sender_that_is_no_address_is_refused_as_such() {
    for from in ["@bot.example.com", "a@", "a b@bot.example.com", "a@bot.example.com/"] {
        assert_eq!(refusal(from), ErrorKind::InvalidJid, "{from}");
    }
}

#[test]
fn an_app_can_write_to_itself_under_its_old_name() {
    let to = |text: &str| shop().recipient(text).unwrap().as_str().to_owned();
    assert_eq!(to("shop@appspot.com"), "shop@bot.example.com");
    assert_eq!(to("x@shop.appspotchat.com/r"), "x@bot.example.com/r");
    assert_eq!(to("other@appspot.com"), "other@appspot.com");
    assert_eq!(to("User@Example.com/R"), "user@example.com/R");
}

#[test]
fn a_version_sends_from_its_own_domain_whatever_name_it_uses() {
    let beta = Addresses::of_version("s~shop", "bot.example.com", "Beta").unwrap();
    assert_eq!(beta.domain(), "beta.latest.bot.example.com");
    let of = |from| beta.sender(Some(from)).map(|jid| jid.as_str().to_owned()).unwrap();
    assert_eq!(beta.sender(None).unwrap().as_str(), "shop@beta.latest.bot.example.com/bot");
    for from in ["shop@appspot.com", "shop@bot.example.com", "shop@shop.appspotchat.com"] {
        assert_eq!(of(from), "shop@beta.latest.bot.example.com/bot", "{from}");
    }
    assert_eq!(of("a@beta.latest.shop.appspotchat.com/x"), "a@beta.latest.bot.example.com/x");
    assert_eq!(of("a@beta.latest.bot.example.com/x"), "a@beta.latest.bot.example.com/x");
    let foreign = beta.sender(Some("a@other.example")).unwrap_err();
    assert_eq!(foreign.kind(), ErrorKind::InvalidSender);
    // It can write to the default version, and only its own domain is its own.
    let to = beta.recipient("news@shop.appspotchat.com").unwrap();
    assert_eq!(to.as_str(), "news@bot.example.com");
    assert!(beta.is_own_domain("beta.latest.bot.example.com"));
    assert!(!beta.is_own_domain("bot.example.com"));
    for version in ["", "a.b", "a b", "a@b", "a/b"] {
        let error = Addresses::of_version("shop", "bot.example.com", version);
        assert_eq!(error.expect_err(version).kind(), ErrorKind::Config);
    }
}

#[test]
fn a_version_has_the_component_that_is_called_after_it() {
    let of = |id, domain, version| Addresses::of_component(id, domain, version);
    let beta = of(None, "Beta.latest.Bot.Example.com", Some("beta")).unwrap();
    assert_eq!((beta.app_id(), beta.domain()), ("bot", "beta.latest.bot.example.com"));
    let named = of(Some("s~shop"), "beta.latest.bot.example.com", Some("Beta")).unwrap();
    assert_eq!(named.default_sender().as_str(), "shop@beta.latest.bot.example.com/bot");
    assert_eq!(of(None, "bot.example.com", None).unwrap().app_id(), "bot");
    for domain in ["bot.example.com", "old.latest.bot.example.com", "beta.latest."] {
        let error = of(None, domain, Some("beta")).expect_err(domain);
        assert_eq!(error.kind(), ErrorKind::Config);
        assert!(domain == "beta.latest." || error.to_string().contains(domain), "{error}");
    }
}

#[test]
fn an_account_has_no_versions() {
    let account = Jid::parse("bot@x.example/bot").unwrap();
    let of = |version| Addresses::of_own(&account, None, version);
    assert_eq!(of(None).unwrap().app_id(), "bot");
    let error = of(Some("beta")).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Config);
    assert!(error.to_string().contains("bot@x.example is one address"), "{error}");
    let beta = Jid::parse("beta.latest.x.example").unwrap();
    assert_eq!(Addresses::of_own(&beta, None, Some("beta")).unwrap().app_id(), "x");
}

#[test]
fn a_form_has_a_name() {
    assert_eq!(Presentation::from_name("domain").unwrap(), Presentation::Domain);
    assert_eq!(Presentation::from_name("appengine").unwrap(), Presentation::AppEngine);
    let error = Presentation::from_name("AppEngine").unwrap_err();
    assert!(
        error.to_string().contains("\"AppEngine\"") && error.to_string().contains("\"appengine\"")
    );
}

#[test]
fn addresses_are_shown_in_app_engines_form_and_come_back() {
    let shop = shop().with_versions(["beta"]).unwrap();
    let beta = Addresses::of_version("shop", "bot.example.com", "beta").unwrap();
    for (addresses, own, shown) in [
        (&shop, "shop@bot.example.com/bot", "shop@appspot.com/bot"),
        (&shop, "shop@bot.example.com", "shop@appspot.com"),
        (&shop, "news@bot.example.com/a@b/c", "news@shop.appspotchat.com/a@b/c"),
        (&shop, "bot.example.com/x", "shop.appspotchat.com/x"),
        (&shop, "a@beta.latest.bot.example.com", "a@beta.latest.shop.appspotchat.com"),
        (&beta, "a@beta.latest.bot.example.com/x", "a@beta.latest.shop.appspotchat.com/x"),
        (&beta, "shop@beta.latest.bot.example.com", "shop@beta.latest.shop.appspotchat.com"),
    ] {
        let wire = WireJid::new(own);
        assert_eq!(addresses.present(&wire), own, "as it is unless asked for");
        let addresses = addresses.clone().with_presentation(Presentation::AppEngine);
        assert_eq!(addresses.present(&wire), shown);
        assert_eq!(addresses.recipient(shown).unwrap().as_str(), own);
        let sender = addresses.sender(Some(shown)).unwrap().into_owned();
        assert_eq!(sender.as_str().trim_end_matches("/bot"), own.trim_end_matches("/bot"));
    }
    let addresses = shop.with_presentation(Presentation::AppEngine);
    for other in ["User@Example.com/R", "a@old.latest.bot.example.com", "not an address"] {
        assert_eq!(addresses.present(&WireJid::new(other)), other);
    }
}

#[test]
fn application_ids_lose_partition_and_domain() {
    assert_eq!(plain_app_id("s~shop"), "shop");
    assert_eq!(plain_app_id("s~example.com:shop"), "shop");
    assert_eq!(plain_app_id("shop"), "shop");
    assert_eq!(app_id_of_domain("bot.example.com"), "bot");
}

#[test]
fn impossible_settings_are_named() {
    for (id, domain) in [("shop", "not a domain"), ("shop", "a@b"), ("a b", "b"), ("", "b")] {
        let error = Addresses::new(id, domain).expect_err("impossible");
        assert_eq!(error.kind(), ErrorKind::Config);
    }
    for version in ["", "a.b", "a b", "a@b"] {
        let error = shop().with_versions([version]).expect_err(version);
        assert_eq!(error.kind(), ErrorKind::Config);
    }
}
