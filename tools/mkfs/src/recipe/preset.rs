//! Named sets of dataset properties for what people put on a dataset.
//!
//! A database's pages are written as records of their own size, so that a page write is one atomic record write and
//! nothing is read first.

type Properties = &'static [(&'static str, &'static str)];

const PRESETS: &[(&str, Properties)] = &[
    ("files", &[("compression", "lz4"), ("atime", "off")]),
    ("log", &[("compression", "lz4"), ("atime", "off"), ("recordsize", "128K")]),
    ("mysql", &[("recordsize", "16K"), ("compression", "lz4"), ("atime", "off"), ("logbias", "latency")]),
    ("postgres", &[("recordsize", "8K"), ("compression", "lz4"), ("atime", "off"), ("logbias", "latency")]),
    ("sqlite", &[("recordsize", "4K"), ("compression", "lz4"), ("atime", "off"), ("logbias", "latency")]),
];

/// The properties of a preset.
pub fn find(name: &str) -> Option<Properties> {
    PRESETS.iter().find(|(n, _)| *n == name).map(|(_, p)| *p)
}

/// The presets' names, for messages.
pub fn names() -> String {
    PRESETS.iter().map(|(n, _)| *n).collect::<Vec<_>>().join(", ")
}
