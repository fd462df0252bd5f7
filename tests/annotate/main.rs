//! `faultlens annotate`: the program, the file it writes, and the page in a browser.

mod adjudicate;
#[path = "../browser/mod.rs"]
mod browser;
mod hostile;
mod kill;
mod page;
mod program;
mod ranked;
mod security;
#[path = "../tiny/mod.rs"]
mod tiny;
