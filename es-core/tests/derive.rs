//! What the derives accept, and how they say no. Refresh the texts with `TRYBUILD=overwrite`.

#![cfg(feature = "derive")]

#[test]
fn accepted_programs_run_and_mistakes_are_explained() {
    let cases = trybuild::TestCases::new();
    cases.pass("tests/derive/pass/*.rs");
    cases.compile_fail("tests/derive/fail/*.rs");
}
