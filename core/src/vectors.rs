//! Reads the vectors that every face shares, for the tests here.

use std::fmt::Debug;
use std::io::Write as _;
use std::path::Path;

use serde_json::Value;

/// One case of a vector file.
pub(crate) struct Case(pub(crate) Value);

impl Case {
    pub(crate) fn str(&self, key: &str) -> &str {
        self.optional_str(key).unwrap_or_else(|| panic!("no string {key:?} in {}", self.0))
    }

    pub(crate) fn optional_str(&self, key: &str) -> Option<&str> {
        self.0.get(key).and_then(Value::as_str)
    }

    pub(crate) fn bool(&self, key: &str) -> bool {
        self.0.get(key).and_then(Value::as_bool).unwrap_or_default()
    }

    pub(crate) fn list(&self, key: &str) -> Vec<&Value> {
        self.0
            .get(key)
            .and_then(Value::as_array)
            .map(|all| all.iter().collect())
            .unwrap_or_default()
    }
}

/// Runs every case of `tests/vectors/NAME.json` and names all that fail.
pub(crate) fn each(name: &str, run: impl Fn(&Case) -> Result<(), String>) {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(format!("../tests/vectors/{name}.json"));
    let text = std::fs::read_to_string(&path).unwrap_or_else(|error| panic!("{path:?}: {error}"));
    let mut file: Value = serde_json::from_str(&text).unwrap_or_else(|e| panic!("{path:?}: {e}"));
    let Value::Array(cases) = file["cases"].take() else { panic!("no cases in {path:?}") };
    assert!(!cases.is_empty(), "no cases in {path:?}");
    // Not by a macro, whose output is kept from who runs the tests: `make test` compares languages.
    let _ = writeln!(std::io::stdout(), "vectors rust {name} {}", cases.len());
    let failed: Vec<String> = cases
        .into_iter()
        .filter_map(|case| {
            let case = Case(case);
            run(&case).err().map(|why| format!("{}\n    {why}", case.0))
        })
        .collect();
    assert!(failed.is_empty(), "{} failed:\n{}", failed.len(), failed.join("\n"));
}

/// Compares one value of a case.
pub(crate) fn same<T: PartialEq + Debug>(what: &str, got: T, expected: T) -> Result<(), String> {
    if got == expected {
        return Ok(());
    }
    Err(format!("{what}: got {got:?}, expected {expected:?}"))
}
