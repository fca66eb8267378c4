//! A look at a document's tokens before anything is built of them.
//!
//! The TOML parser bounds the nesting of brackets, but a dotted key nests as deeply as it has dots, at every level of
//! brackets again, and trees are dropped by recursion. It also keeps every token. So both are counted first, in
//! constant memory.

use toml_parser::Source;
use toml_parser::lexer::TokenKind;

use crate::source::Span;

/// Dots in one key. A mesh file needs three: `[service.NAME.at.NODE]`.
const MAX_DOTS: usize = 8;

/// Tokens in one document. A mesh of 10,000 nodes and 2,000 services has a tenth of that.
const MAX_TOKENS: usize = 4_000_000;

/// Why a document is not parsed, and where that shows.
pub(crate) fn refuse(text: &str) -> Option<(Span, &'static str, &'static str)> {
    let mut dots = 0;
    for (count, token) in Source::new(text).lex().enumerate() {
        let span = || token.span().start()..token.span().end();
        match token.kind() {
            TokenKind::Dot => dots += 1,
            TokenKind::Whitespace | TokenKind::Atom | TokenKind::BasicString | TokenKind::LiteralString => {}
            _ => dots = 0,
        }
        if dots > MAX_DOTS {
            return Some((span(), "this is nested too deeply", "nothing in this file needs more than a few levels"));
        }
        if count >= MAX_TOKENS {
            return Some((span(), "the file has too much in it", "it is read up to four million words and signs"));
        }
    }
    None
}
