//! The program: read the configuration, open the listeners, wait for signals.

fn main() {}
