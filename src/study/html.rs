pub fn html(_: &super::findings::Findings) -> String { String::new() }
