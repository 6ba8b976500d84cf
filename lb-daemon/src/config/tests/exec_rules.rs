//! Rules of health checks by programs.

use super::{refuses, valid, with};
use crate::model::{Ask, Exec, Route};

/// The valid file with such a check.
fn checked(lines: &str) -> String {
    with("type = \"http\"", &format!("type = \"exec\"\n{lines}"))
}

#[test]
fn a_program_has_words_and_variables() {
    let config = valid(&checked("argv = [\"/bin/check\", \"-v\", \"\"]\nenv = { A_1 = \"x y\", _b = \"\" }"));
    let check = &config.pools["web"].health.checks[0];
    let env = [("A_1", "x y"), ("_b", "")].map(|(name, value)| (name.to_owned(), value.to_owned())).into();
    let argv = ["/bin/check", "-v", ""].map(Into::into).into();
    assert_eq!((check.ask.clone(), check.route), (Ask::Exec(Exec { argv, env }), Route::Direct));
    assert!(config.needs_runner().is_some_and(|why| why.contains("exec")));
    assert_eq!(valid(super::VALID).needs_runner(), None);
}

#[test]
fn refuses_programs_that_cannot_be_run_as_they_are() {
    refuses(&checked(""), "missing-key", "[pool.web.health]", "argv = [");
    refuses(&checked("argv = []"), "invalid-value", "[]", "/usr/local/bin/check");
    refuses(&checked("argv = [\"check\"]"), "invalid-value", "\"check\"", "begin with a slash");
    refuses(
        &checked("argv = [\"/bin/check\", \"a\\u0000b\"]"),
        "invalid-value",
        "\"a\\u0000b\"",
        "none of which is zero",
    );
    refuses(&checked("argv = \"/bin/check\""), "wrong-type", "\"/bin/check\"", "[\"/bin/check\"]");
    refuses(&checked("argv = [1]"), "wrong-type", "1", "quotes");
    let many = format!("argv = [{}]", "\"/bin/check\", ".repeat(65));
    refuses(&checked(&many), "invalid-value", "[\"/bin/check\"", "/usr/local/bin/check");
}

#[test]
fn refuses_variables_that_cannot_be_or_are_set_anyway() {
    let env = |env: &str| checked(&format!("argv = [\"/bin/check\"]\nenv = {{ {env} }}"));
    refuses(&env("LB_VIP = \"x\""), "invalid-value", "LB_VIP", "does not begin with LB_");
    refuses(&env("\"a b\" = \"x\""), "invalid-value", "\"a b\"", "letters, digits and `_`");
    refuses(&env("1a = \"x\""), "invalid-value", "1a", "letters, digits and `_`");
    refuses(&env("a = 1"), "wrong-type", "1", "\"1\"");
}

#[test]
fn refuses_what_has_no_effect_on_a_program() {
    let with_line = |line: &str| checked(&format!("argv = [\"/bin/check\"]\n{line}"));
    refuses(&with_line("probe = \"direct\""), "conflict", "probe", "remove `probe`");
    refuses(&with_line("path = \"/\""), "conflict", "path", "remove `path`");
    refuses(&with("type = \"http\"", "type = \"tcp\"\nargv = [\"/bin/check\"]"), "conflict", "argv", "remove `argv`");
    // It need not know a port.
    valid(&with_line("").replace("port = 443", "port = 0"));
}
