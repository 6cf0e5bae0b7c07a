//! The stand-alone command.
fn main() {}
