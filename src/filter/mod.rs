//! Which flows are meant: nfdump's filter language as text, as a tree, and as a selection over columns.
//!
//! [`parse`] turns text into an [`Expression`], a plain value whose `Display` is the canonical text (parsing that gives
//! an equal tree). [`Expression::select`] runs it over a batch. Nothing here does I/O, knows SQL or names an exporter.
//!
//! The grammar; words in any case, blanks and line ends free, `#` starts a comment that ends with the line:
//!
//! ```text
//! filter     = [ either ]                          an empty filter is `any`
//! either     = both { ("or" | "||") both }
//! both       = negation { ("and" | "&&") negation }
//! negation   = { "not" | "!" } ( "(" either ")" | primitive )
//! primitive  = "any" | "ipv4" | "ipv6" | "inet" | "inet6"
//!            | address [ "=" | "==" | "eq" ] ADDRESS
//!            | address "in" "[" ADDRESS [ "/" LENGTH ] { [","] ADDRESS [ "/" LENGTH ] } "]"
//!            | [ direction ] "net" ( ADDRESS ( "/" LENGTH | MASK ) | "local" )
//!            | number [ comparison ] NUMBER
//!            | number "in" "[" NUMBER { [","] NUMBER } "]"
//!            | "flags" ( [ "=" ] LETTERS | [ comparison ] NUMBER )
//! direction  = "src" | "dst" | "next" | "bgp" "next"
//! address    = [ direction ] ( "ip" | "host" ) | the name of a field that holds addresses
//! number     = [ "src" | "dst" ] ( "port" | "as" | "vlan" | "mask" | "tos" ) | [ "in" | "out" ] ( "if" | "bytes" | "packets" )
//!            | "proto" | ( "ingress" | "egress" ) "vrf" | "mpls" ( "label1" | "label2" | "label3" )
//!            | "asa" "event" | "nat" "event" | the name of a field that holds numbers
//! comparison = "=" | "==" | "eq" | ">" | "gt" | "<" | "lt" | ">=" | "ge" | "<=" | "le"
//! NUMBER     = decimal | "0x" hexadecimal | decimal ("k" | "m" | "g" | "t")      times 1000, 1000^2, 1000^3, 1000^4
//!            | the name or the start of the name of a protocol, after `proto`
//!            | "ignore" | "create" | "delete" | "term" | "deny" | "alert" | "update", after `asa event`
//! LETTERS    = of F S R P A U E C, and X for the first six
//! ```
//!
//! What it means, as in nfdump 1.7:
//!
//! - Without a direction, either side may match. `tos` is the source's; `bytes` and `packets` are the in counters.
//! - A flow without the field is not selected by a primitive, and so is selected by its `not`.
//! - `flags SA` wants all named flags, `flags =SA` exactly those; both want TCP.
//! - `not` binds to the next primitive or parenthesis, `and` before `or`.
//!
//! Where we differ: `&&` and `||` work, as in nfdump 1.6. Host bits in `net 10.1.2.3/16` are cleared (nfdump 1.7 then
//! never matches), and `/0` in a list is a network. Counters are those that were exported, before a sampling interval
//! multiplies them. Blanks around comparisons are not needed. Names of fields, ours and nfdump's for statistics, are words.
//! Host names are not looked up. `net local` stands for the local networks, `[network] local`, and is written out as their list. An IPv4-mapped IPv6 address is the IPv4 address, and no IPv6 network, not even `::/0`,
//! holds an IPv4 address.
//!
//! Hostile text meets a limit: [`MAX_LENGTH`] bytes, [`MAX_NODES`] parts, [`MAX_DEPTH`] parentheses deep. Recursion goes no
//! deeper than that.

#![deny(clippy::indexing_slicing, clippy::arithmetic_side_effects)]
#![cfg_attr(test, allow(clippy::indexing_slicing, clippy::arithmetic_side_effects))]

mod error;
mod lexer;
mod mask;
mod parser;
mod tree;

#[cfg(test)]
mod tests;

pub use error::FilterError;
pub use mask::Selection;
pub use parser::{MAX_DEPTH, MAX_LENGTH, MAX_NODES, parse, parse_within};
pub use tree::{Comparison, Expression, FlagTest, NumberTest};
