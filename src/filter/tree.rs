//! A filter as a plain value, and its canonical text.
//!
//! Promises: trees made by [`parse`](super::parse) and by the constructors are flat (no `And` within an `And`, no `Or`
//! within an `Or`, no `Not` of a `Not`), their lists are sorted, not empty and without doubles, their networks have no
//! host bits. For such a tree, parsing its text gives an equal tree.

use crate::flow::fields::{Dimension, Field, PAIRS};
use crate::flow::names::protocol_name;
use ipnetwork::IpNetwork;
use std::fmt;
use std::net::IpAddr;

/// A filter.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Expression {
    /// All flows.
    Any,
    /// The flows that the inner filter leaves out.
    Not(Box<Expression>),
    /// The flows that all of them select.
    And(Vec<Expression>),
    /// The flows that at least one of them selects.
    Or(Vec<Expression>),
    /// Flows with an address in one of the networks.
    Address {
        /// Which address; of a pair, either side.
        of: Dimension,
        /// The networks; a host is a network of one address.
        networks: Vec<IpNetwork>,
    },
    /// Flows with a number that passes a test.
    Number {
        /// Which number; of a pair, either side.
        of: Dimension,
        /// The test.
        test: NumberTest,
    },
    /// TCP flows with certain flags.
    Flags(FlagTest),
    /// Flows with a source or destination address of IPv4.
    Ipv4,
    /// Flows with a source or destination address of IPv6.
    Ipv6,
}

/// How a number is compared with the one in the filter.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Comparison {
    /// The same.
    Equal,
    /// Larger.
    Greater,
    /// Smaller.
    Less,
    /// Larger or the same.
    AtLeast,
    /// Smaller or the same.
    AtMost,
}

/// What a number must be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum NumberTest {
    /// Compared with one number.
    Compare(Comparison, u64),
    /// One of several numbers.
    In(Vec<u64>),
}

/// What TCP flags must be, as bits of [`Field::TcpFlags`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FlagTest {
    /// All of these are set, others may be.
    All(u16),
    /// The flags as a number, compared with a number.
    Compare(Comparison, u16),
}

/// The letters of flags and their bits, in the order of the bits.
pub(super) const FLAG_LETTERS: &[(char, u16)] =
    &[('F', 1), ('S', 2), ('R', 4), ('P', 8), ('A', 16), ('U', 32), ('E', 64), ('C', 128)];

/// The words of the language that are not names of fields: direction, word, and the dimension they mean. The first row of
/// a dimension is its canonical text. A new word is one row here.
static WORDS: &[(&str, &str, &str)] = &[
    ("", "ip", "ip"),
    ("src", "ip", "src_ip"),
    ("dst", "ip", "dst_ip"),
    ("next", "ip", "next_hop"),
    ("bgp next", "ip", "bgp_next_hop"),
    ("", "port", "port"),
    ("src", "port", "src_port"),
    ("dst", "port", "dst_port"),
    ("", "proto", "protocol"),
    ("", "as", "as"),
    ("src", "as", "src_as"),
    ("dst", "as", "dst_as"),
    ("", "if", "interface"),
    ("in", "if", "input_interface"),
    ("out", "if", "output_interface"),
    ("", "vlan", "vlan"),
    ("src", "vlan", "src_vlan"),
    ("dst", "vlan", "dst_vlan"),
    ("", "mask", "mask"),
    ("src", "mask", "src_mask"),
    ("dst", "mask", "dst_mask"),
    ("src", "tos", "src_tos"),
    ("dst", "tos", "dst_tos"),
    ("", "tos", "src_tos"),
    ("", "bytes", "in_bytes"),
    ("in", "bytes", "in_bytes"),
    ("out", "bytes", "out_bytes"),
    ("", "packets", "in_packets"),
    ("in", "packets", "in_packets"),
    ("out", "packets", "out_packets"),
    ("ingress", "vrf", "ingress_vrf"),
    ("egress", "vrf", "egress_vrf"),
    ("mpls", "label1", "mpls_label_1"),
    ("mpls", "label2", "mpls_label_2"),
    ("mpls", "label3", "mpls_label_3"),
    ("asa", "event", "firewall_event"),
    ("nat", "event", "nat_event"),
];

/// The direction that is the one word `word`, which is in lower case.
pub(super) fn direction(word: &str) -> Option<&'static str> {
    WORDS.iter().map(|(way, ..)| *way).find(|way| !way.is_empty() && *way == word)
}

/// The dimension that `direction` (empty for none) and `word` mean together, in any case.
pub(super) fn dimension(direction: &str, word: &str) -> Option<Dimension> {
    let row = WORDS.iter().find(|(way, own, _)| *way == direction && own.eq_ignore_ascii_case(word));
    match row {
        Some((_, _, name)) => Dimension::parse(name),
        None if direction.is_empty() => Dimension::parse(word),
        None => None,
    }
}

/// The words that may follow `direction`, for error messages.
pub(super) fn words_after(direction: &str) -> Vec<&'static str> {
    WORDS.iter().filter(|(way, ..)| *way == direction).map(|(_, word, _)| *word).collect()
}

/// The fields a dimension reads.
pub(super) fn sides(of: Dimension) -> impl Iterator<Item = Field> {
    let (first, second) = match of {
        Dimension::One(field) => (field, None),
        Dimension::Either { source, destination, .. } => (source, Some(destination)),
    };
    std::iter::once(first).chain(second)
}

/// The network without host bits; an IPv4-mapped one as IPv4.
pub(super) fn canonical_network(address: IpAddr, length: u8) -> Option<IpNetwork> {
    let (address, length) = match address {
        IpAddr::V6(v6) => match (v6.to_ipv4_mapped(), length.checked_sub(96)) {
            (Some(v4), Some(within)) => (IpAddr::V4(v4), within),
            _ => (address, length),
        },
        IpAddr::V4(_) => (address, length),
    };
    let network = IpNetwork::new(address, length).ok()?;
    IpNetwork::new(network.network(), length).ok()
}

impl Expression {
    /// `src ip H` for a host.
    pub fn src_ip(host: IpAddr) -> Self {
        Self::address(Dimension::One(Field::SrcIp), [IpNetwork::from(host)])
    }

    /// `dst ip H` for a host.
    pub fn dst_ip(host: IpAddr) -> Self {
        Self::address(Dimension::One(Field::DstIp), [IpNetwork::from(host)])
    }

    /// `ip H` for a host: either side.
    pub fn ip(host: IpAddr) -> Self {
        Self::address(either_address(), [IpNetwork::from(host)])
    }

    /// `src ip in [..]`.
    pub fn src_networks(networks: impl IntoIterator<Item = IpNetwork>) -> Self {
        Self::address(Dimension::One(Field::SrcIp), networks)
    }

    /// `dst ip in [..]`: what the local networks downloaded.
    pub fn dst_networks(networks: impl IntoIterator<Item = IpNetwork>) -> Self {
        Self::address(Dimension::One(Field::DstIp), networks)
    }

    /// Flows whose address in the dimension `of` lies in one of `networks`; without networks, none.
    pub fn address(of: Dimension, networks: impl IntoIterator<Item = IpNetwork>) -> Self {
        let canonical = |network: IpNetwork| canonical_network(network.ip(), network.prefix()).unwrap_or(network);
        let mut networks: Vec<_> = networks.into_iter().map(canonical).collect();
        networks.sort_unstable();
        networks.dedup();
        if networks.is_empty() { Self::Any.not() } else { Self::Address { of, networks } }
    }

    /// Flows whose number in the dimension `of` is one of `numbers`; without numbers, none.
    pub fn number_in(of: Dimension, mut numbers: Vec<u64>) -> Self {
        numbers.sort_unstable();
        numbers.dedup();
        match numbers.as_slice() {
            [] => Self::Any.not(),
            [number] => Self::Number { of, test: NumberTest::Compare(Comparison::Equal, *number) },
            _ => Self::Number { of, test: NumberTest::In(numbers) },
        }
    }

    /// Flows that both select.
    #[must_use]
    pub fn and(self, other: Self) -> Self {
        Self::all([self, other])
    }

    /// Flows that at least one of both selects.
    #[must_use]
    pub fn or(self, other: Self) -> Self {
        Self::one_of([self, other])
    }

    /// Flows that this filter leaves out.
    #[must_use]
    #[expect(clippy::should_implement_trait, reason = "it is a word of the language, beside `and` and `or`")]
    pub fn not(self) -> Self {
        match self {
            Self::Not(inner) => *inner,
            other => Self::Not(Box::new(other)),
        }
    }

    /// Flows that all of `parts` select. `any` among them adds nothing and is left out.
    pub fn all(parts: impl IntoIterator<Item = Self>) -> Self {
        let mut flat = Vec::new();
        for part in parts {
            match part {
                Self::And(inner) => flat.extend(inner),
                Self::Any => {}
                other => flat.push(other),
            }
        }
        match flat.len() {
            0 => Self::Any,
            1 => flat.pop().unwrap_or(Self::Any),
            _ => Self::And(flat),
        }
    }

    /// Flows that at least one of `parts` selects.
    pub fn one_of(parts: impl IntoIterator<Item = Self>) -> Self {
        let mut flat = Vec::new();
        for part in parts {
            match part {
                Self::Or(inner) => flat.extend(inner),
                other => flat.push(other),
            }
        }
        match flat.len() {
            0 => Self::Any.not(),
            1 => flat.pop().unwrap_or(Self::Any),
            _ => Self::Or(flat),
        }
    }

    /// The fields the filter reads, in the order of the catalogue, each once.
    pub fn fields(&self) -> Vec<Field> {
        let mut fields = Vec::new();
        self.collect_fields(&mut fields);
        fields.sort_unstable();
        fields.dedup();
        fields
    }

    fn collect_fields(&self, fields: &mut Vec<Field>) {
        match self {
            Self::Any => {}
            Self::Not(inner) => inner.collect_fields(fields),
            Self::And(parts) | Self::Or(parts) => parts.iter().for_each(|part| part.collect_fields(fields)),
            Self::Address { of, .. } | Self::Number { of, .. } => fields.extend(sides(*of)),
            Self::Flags(_) => fields.extend([Field::Protocol, Field::TcpFlags]),
            Self::Ipv4 | Self::Ipv6 => fields.extend([Field::SrcIp, Field::DstIp]),
        }
    }
}

/// The pair of source and destination address.
fn either_address() -> Dimension {
    PAIRS.iter().find(|(name, ..)| *name == "ip").map_or(
        Dimension::Either { name: "ip", source: Field::SrcIp, destination: Field::DstIp },
        |&(name, _, source, destination)| Dimension::Either { name, source, destination },
    )
}

impl fmt::Display for Comparison {
    /// The symbol with a blank after it; nothing for equality, which is what a number alone means.
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(match self {
            Self::Equal => "",
            Self::Greater => "> ",
            Self::Less => "< ",
            Self::AtLeast => ">= ",
            Self::AtMost => "<= ",
        })
    }
}

/// Writes `items` between brackets.
fn write_list<T>(
    formatter: &mut fmt::Formatter<'_>,
    items: &[T],
    write: impl Fn(&mut fmt::Formatter<'_>, &T) -> fmt::Result,
) -> fmt::Result {
    formatter.write_str(" in [")?;
    for (index, item) in items.iter().enumerate() {
        formatter.write_str(if index == 0 { "" } else { " " })?;
        write(formatter, item)?;
    }
    formatter.write_str("]")
}

/// Writes the words for a dimension.
fn write_dimension(formatter: &mut fmt::Formatter<'_>, of: Dimension, network: bool) -> fmt::Result {
    let Some((direction, word, _)) = WORDS.iter().find(|(_, _, name)| *name == of.name()) else {
        return formatter.write_str(of.name());
    };
    let blank = if direction.is_empty() { "" } else { " " };
    write!(formatter, "{direction}{blank}{}", if network { "net" } else { word })
}

fn is_host(network: &IpNetwork) -> bool {
    network.prefix() == if network.is_ipv4() { 32 } else { 128 }
}

fn write_network(formatter: &mut fmt::Formatter<'_>, network: &IpNetwork) -> fmt::Result {
    if is_host(network) { write!(formatter, "{}", network.ip()) } else { write!(formatter, "{network}") }
}

impl Expression {
    /// Writes the filter, in parentheses when it binds more loosely than `inside` what it stands.
    fn write(&self, formatter: &mut fmt::Formatter<'_>, inside: Binding) -> fmt::Result {
        let (parts, word, own) = match self {
            Self::And(parts) => (parts, " and ", Binding::And),
            Self::Or(parts) => (parts, " or ", Binding::Or),
            Self::Not(inner) => {
                formatter.write_str("not ")?;
                return inner.write(formatter, Binding::Not);
            }
            _ => return self.write_primitive(formatter),
        };
        let open = own < inside;
        formatter.write_str(if open { "(" } else { "" })?;
        for (index, part) in parts.iter().enumerate() {
            formatter.write_str(if index == 0 { "" } else { word })?;
            part.write(formatter, own)?;
        }
        formatter.write_str(if open { ")" } else { "" })
    }

    fn write_primitive(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Ipv4 => formatter.write_str("ipv4"),
            Self::Ipv6 => formatter.write_str("ipv6"),
            Self::Address { of, networks } => {
                if let [network] = networks.as_slice() {
                    write_dimension(formatter, *of, !is_host(network))?;
                    formatter.write_str(" ")?;
                    return write_network(formatter, network);
                }
                write_dimension(formatter, *of, false)?;
                write_list(formatter, networks, write_network)
            }
            Self::Number { of, test } => {
                write_dimension(formatter, *of, false)?;
                let name = |number: u64| match of {
                    Dimension::One(Field::Protocol) => u8::try_from(number).ok().and_then(protocol_name),
                    _ => None,
                };
                let write_number = |formatter: &mut fmt::Formatter<'_>, number: &u64| match name(*number) {
                    Some(name) => formatter.write_str(name),
                    None => write!(formatter, "{number}"),
                };
                match test {
                    NumberTest::Compare(Comparison::Equal, number) => {
                        formatter.write_str(" ")?;
                        write_number(formatter, number)
                    }
                    NumberTest::Compare(comparison, number) => write!(formatter, " {comparison}{number}"),
                    NumberTest::In(numbers) => write_list(formatter, numbers, write_number),
                }
            }
            Self::Flags(FlagTest::All(bits)) => {
                formatter.write_str("flags ")?;
                let mut set = FLAG_LETTERS.iter().filter(|(_, bit)| bits & bit != 0);
                set.try_for_each(|(letter, _)| write!(formatter, "{letter}"))
            }
            Self::Flags(FlagTest::Compare(comparison, number)) => write!(formatter, "flags {comparison}{number}"),
            Self::Any | Self::Not(_) | Self::And(_) | Self::Or(_) => formatter.write_str("any"),
        }
    }
}

/// How tightly an operator binds.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Binding {
    Or,
    And,
    Not,
}

impl fmt::Display for Expression {
    /// The canonical text: lower case, as few parentheses as possible, no comments.
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.write(formatter, Binding::Or)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_word_of_the_table_means_a_dimension() {
        for (direction, word, name) in WORDS {
            let meant = dimension(direction, &word.to_uppercase()).unwrap();
            assert_eq!(meant.name(), *name, "{direction} {word}");
        }
        assert_eq!(dimension("next", "port"), None);
        assert_eq!(dimension("", "DST_IP"), Some(Dimension::One(Field::DstIp)));
    }

    #[test]
    fn constructors_flatten_and_drop_what_says_nothing() {
        let host: IpAddr = "10.0.0.1".parse().unwrap();
        let both = Expression::Any.and(Expression::dst_ip(host)).and(Expression::ip(host).and(Expression::Ipv4));
        assert_eq!(both.to_string(), "dst ip 10.0.0.1 and ip 10.0.0.1 and ipv4");
        let loose = both.clone().or(Expression::Ipv6.not()).not().not();
        assert_eq!(loose.to_string(), "dst ip 10.0.0.1 and ip 10.0.0.1 and ipv4 or not ipv6");
        assert_eq!(
            loose.and(Expression::Any.not()).to_string(),
            "(dst ip 10.0.0.1 and ip 10.0.0.1 and ipv4 or not ipv6) and not any"
        );
        let networks = ["10.1.2.3/8", "10.0.0.0/8", "::ffff:192.168.0.1/112"].map(|text| text.parse().unwrap());
        assert_eq!(Expression::dst_networks(networks).to_string(), "dst ip in [10.0.0.0/8 192.168.0.0/16]");
        assert_eq!(Expression::src_networks([]).to_string(), "not any");
        assert_eq!(both.fields(), [Field::SrcIp, Field::DstIp]);
    }
}
