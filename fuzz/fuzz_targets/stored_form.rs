#![no_main]

libfuzzer_sys::fuzz_target!(|text: &str| es_fuzz::stored_form(text));
