//! Markdown into each platform's dialect, split by the platform's own unit. Pure.
//!
//! [`parse`] reads Markdown once, into a [`Document`]: a flat list of blocks, each a text with spans that say what it
//! means. [`render`] writes a document in a [`Dialect`] and cuts it into parts as it goes. The dialects themselves live in
//! the platforms' folders and know only how a heading, a link or an escaped asterisk is written.

mod dialect;
mod document;
mod flow;
mod frame;
mod links;
pub(crate) mod markdown;
mod parse;
mod rewrite;
mod split;
mod table;

#[cfg(any(test, feature = "fuzzing"))]
pub(crate) mod judge;
#[cfg(test)]
pub(crate) mod samples;

pub use dialect::{Dialect, Place, TableForm};
pub(crate) use dialect::{entity, plain_item};
pub(crate) use document::visible;
pub use document::{
    Alignment, Block, Container, Content, Document, Marker, Span, Style, Table, Text,
};
pub(crate) use flow::ZERO_WIDTH_SPACE;
pub use markdown::Markdown;
pub use parse::parse;
pub(crate) use rewrite::Edit;
#[cfg(test)]
pub(crate) use rewrite::flaws;
pub use split::{MOST_PARTS, render, whole};

/// The text cannot be sent as it is.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum RenderError {
    /// Nothing is left to show.
    #[error("the text is empty: write something to send")]
    Empty,
    /// It would take too many messages.
    #[error(
        "the text is too long: it would take more than {most} messages; shorten it or send it in several calls"
    )]
    TooLong {
        /// The most messages that one text may take.
        most: usize,
    },
}
