pub fn markdown(_: &super::findings::Findings) -> String { String::new() }
