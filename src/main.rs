//! waybill's command line.

fn main() {}
