#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| herald::fuzzing::mcp_body(data));
