//! A template compiled into what is to be copied from where: the decoder's inner loops without decisions.
//!
//! Compiling happens once per definition. Offsets are into a record without its variable-length fields, which
//! [`Layout::Variable`] removes before copying, so that every data set is a row of equal strides. A known field whose width
//! is impossible is left out and counted for every record.

use super::elements::{About, Moment, Part, Section, Target, find};
use super::section::SectionStep;
use super::templates::{FieldSpecifier, VARIABLE};
use crate::flow::fields::{FIELD_COUNT, Field};

/// Where the values of a column come from. Offsets in bytes from the start of a record.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Source {
    /// A number of `width` bytes, 1 to 8.
    Unsigned { offset: usize, width: usize },
    /// An IPv4 address.
    V4 { offset: usize },
    /// An IPv6 address.
    V6 { offset: usize },
    /// Both: the IPv6 address if only that is not zero, else the IPv4 address.
    Either { v4: usize, v6: usize },
    /// A MAC address.
    Mac { offset: usize },
    /// The first 20 bits: an MPLS label.
    Label { offset: usize },
    /// The lower six bits of a byte, to become the upper ones.
    Dscp { offset: usize },
}

/// Where a number of 1 to 8 bytes stands in a record.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Number {
    /// Bytes from the start of a record.
    pub(super) offset: usize,
    /// 1 to 8 bytes.
    pub(super) width: usize,
}

/// Where octets stand in a record that are no number.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Octets {
    /// So many bytes from the start of a record.
    Fixed { offset: usize, width: usize },
    /// At this place among the spans of a record, as long as it says.
    Variable { span: usize },
}

/// What a record says about its own sampling.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct SamplingStep {
    /// One out of so many packets.
    pub(super) interval: Option<Number>,
    /// So many packets are taken, and then so many are left out.
    pub(super) spaced: Option<(Number, Number)>,
    /// The number of the sampler, which options describe.
    pub(super) sampler: Option<Number>,
}

impl SamplingStep {
    /// Whether a record says nothing.
    pub(super) fn is_empty(&self) -> bool {
        *self == Self::default()
    }
}

/// What records count for among flows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Counting {
    /// Each is a flow, or as many as it says.
    Flows,
    /// Firewall events: those that create or update a flow count for none, so that a connection counts once.
    FirewallEvents,
    /// They log translations and count no traffic.
    Log,
}

/// A moment to be read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct TimeStep {
    /// Offset in bytes from the start of a record.
    pub(super) offset: usize,
    /// How it is written.
    pub(super) moment: Moment,
}

/// A duration to be read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct DurationStep {
    /// Offset in bytes from the start of a record.
    pub(super) offset: usize,
    /// 1 to 8 bytes.
    pub(super) width: usize,
    /// Microseconds per unit.
    pub(super) scale: i64,
}

/// A stretch of a record with variable-length fields.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Span {
    /// So many bytes that are kept.
    Fixed(usize),
    /// A field that brings its length along and is removed.
    Variable,
    /// The same, but it is remembered as the record's section of a packet.
    Section,
    /// The same, as the record's application.
    Application,
}

/// How records lie in a set.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Layout {
    /// Each is as long as the plan says.
    Fixed,
    /// Each is at least `minimum` bytes long and made of these spans.
    Variable { spans: Vec<Span>, minimum: usize },
}

/// What to copy from each record of a template.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Plan {
    /// Bytes of a record without its variable-length fields.
    pub(super) record_length: usize,
    /// How records lie in a set.
    pub(super) layout: Layout,
    /// The columns and their sources.
    pub(super) columns: Vec<(Field, Source)>,
    /// The flow's start.
    pub(super) first: Option<TimeStep>,
    /// The flow's end.
    pub(super) last: Option<TimeStep>,
    /// The flow's duration.
    pub(super) duration: Option<DurationStep>,
    /// Where the exporter's start stands, 8 bytes in milliseconds since 1970.
    pub(super) system_init: Option<usize>,
    /// What records say about sampling.
    pub(super) sampling: SamplingStep,
    /// What records count for.
    pub(super) counting: Counting,
    /// The packet that a record is about, when it tells no addresses itself.
    pub(super) section: Option<SectionStep>,
    /// The application, when it is not four bytes that can be copied.
    pub(super) application: Option<Octets>,
    /// How many known fields cannot be read for their width.
    pub(super) bad_widths: usize,
    /// The elements that no field takes, by enterprise and identifier.
    pub(super) unknown: Vec<(u32, u16)>,
}

/// Keeps the candidate of the lowest rank, the first of equals.
fn better<T>(best: &mut Option<(u8, T)>, rank: u8, candidate: T) {
    if best.as_ref().is_none_or(|&(taken, _)| rank < taken) {
        *best = Some((rank, candidate));
    }
}

/// The candidates seen so far while compiling, each with its rank.
struct Candidates {
    plain: [Option<(u8, Source)>; FIELD_COUNT],
    wide: [Option<(u8, usize)>; FIELD_COUNT],
    first: Option<(u8, TimeStep)>,
    last: Option<(u8, TimeStep)>,
    duration: Option<(u8, DurationStep)>,
    system_init: Option<(u8, usize)>,
    interval: Option<(u8, Number)>,
    taken: Option<(u8, Number)>,
    skipped: Option<(u8, Number)>,
    sampler: Option<(u8, Number)>,
    section: Option<(u8, (Section, Octets))>,
    application: Option<(u8, Octets)>,
    about: [Option<(u8, Number)>; 4],
}

/// Events have no extent: start and end are taken from them when no other element has them.
const EVENT_RANK: u8 = 10;

impl Candidates {
    fn plain(&mut self, field: Field, rank: u8, source: Source) {
        if let Some(best) = self.plain.get_mut(field.index()) {
            better(best, rank, source);
        }
    }

    /// What `target` is in records about a packet inside another one: the outer one's come first (RFC 7011, 8).
    fn layered(&self, target: Target) -> Target {
        let (outer, inner) = match target {
            Target::Unsigned(Field::Protocol) => (Field::Protocol, Target::Unsigned(Field::InnerProtocol)),
            Target::V4(Field::SrcIp) => (Field::SrcIp, Target::V4(Field::InnerSrcIp)),
            Target::V4(Field::DstIp) => (Field::DstIp, Target::V4(Field::InnerDstIp)),
            Target::V6(Field::SrcIp) => (Field::SrcIp, Target::V6(Field::InnerSrcIp)),
            Target::V6(Field::DstIp) => (Field::DstIp, Target::V6(Field::InnerDstIp)),
            other => return other,
        };
        let index = outer.index();
        let taken =
            self.plain.get(index).is_some_and(Option::is_some) || self.wide.get(index).is_some_and(Option::is_some);
        if taken { inner } else { target }
    }

    /// Takes a field for `target` if its width is possible, and says whether it is.
    fn offer(&mut self, target: Target, rank: u8, offset: usize, width: usize) -> bool {
        match (target, width) {
            (Target::Unsigned(field), 1..=8) => self.plain(field, rank, Source::Unsigned { offset, width }),
            (Target::V4(field), 4) => self.plain(field, rank, Source::V4 { offset }),
            (Target::V6(field), 16) => {
                if let Some(best) = self.wide.get_mut(field.index()) {
                    better(best, rank, offset);
                }
            }
            (Target::Mac(field), 6) => self.plain(field, rank, Source::Mac { offset }),
            (Target::Icmp, 2) => {
                self.plain(Field::IcmpType, rank, Source::Unsigned { offset, width: 1 });
                self.plain(Field::IcmpCode, rank, Source::Unsigned { offset: offset.saturating_add(1), width: 1 });
            }
            (Target::First(moment), width) if width == width_of(moment) => {
                better(&mut self.first, rank, TimeStep { offset, moment });
            }
            (Target::Last(moment), width) if width == width_of(moment) => {
                better(&mut self.last, rank, TimeStep { offset, moment });
            }
            (Target::Duration(scale), 1..=8) => {
                better(&mut self.duration, rank, DurationStep { offset, width, scale });
            }
            (Target::SystemInit, 8) => better(&mut self.system_init, rank, offset),
            (Target::Label(field), 3..) => self.plain(field, rank, Source::Label { offset }),
            (Target::Ttl, 1) => {
                self.plain(Field::MinTtl, rank, Source::Unsigned { offset, width });
                self.plain(Field::MaxTtl, rank, Source::Unsigned { offset, width });
            }
            (Target::Dscp, 1) => self.plain(Field::SrcTos, rank, Source::Dscp { offset }),
            (Target::Segment(field), 8) => {
                self.plain(field, rank, Source::Unsigned { offset: offset.saturating_add(5), width: 3 });
            }
            (Target::Event(moment), width) if width == width_of(moment) => {
                let rank = rank.saturating_add(EVENT_RANK);
                better(&mut self.first, rank, TimeStep { offset, moment });
                better(&mut self.last, rank, TimeStep { offset, moment });
            }
            (Target::Sampling(part), 1..=8) => {
                let best = match part {
                    Part::Interval => &mut self.interval,
                    Part::Taken => &mut self.taken,
                    Part::Skipped => &mut self.skipped,
                };
                better(best, rank, Number { offset, width });
            }
            (Target::Sampler, 1..=8) => better(&mut self.sampler, rank, Number { offset, width }),
            // An engine and a selector of three bytes.
            (Target::Application, 4) => self.plain(Field::ApplicationId, rank, Source::Unsigned { offset, width }),
            (Target::Application, 1..) => better(&mut self.application, rank, Octets::Fixed { offset, width }),
            (Target::Packet(section), 1..) => {
                better(&mut self.section, rank, (section, Octets::Fixed { offset, width }));
            }
            (Target::AboutSection(about), 1..=8) => {
                if let Some(best) = self.about.get_mut(about as usize) {
                    better(best, rank, Number { offset, width });
                }
            }
            (Target::Nothing, _) => {}
            _ => return false,
        }
        true
    }

    /// Takes a field of variable length for `target` if it can be one; `span` is its place among the spans.
    fn offer_variable(&mut self, target: Target, rank: u8, span: usize) -> bool {
        match target {
            Target::Packet(section) => better(&mut self.section, rank, (section, Octets::Variable { span })),
            Target::Application => better(&mut self.application, rank, Octets::Variable { span }),
            _ => return false,
        }
        true
    }

    /// The application that has to be read value by value, which then is no column to be copied.
    fn application(&mut self) -> Option<Octets> {
        let (rank, octets) = self.application?;
        let plain = self.plain.get_mut(Field::ApplicationId.index())?;
        if plain.is_some_and(|(taken, _)| taken <= rank) {
            return None;
        }
        *plain = None;
        Some(octets)
    }

    /// The section to be read: none where elements tell of a flow, of which the packet is only an example.
    fn section(&self) -> Option<SectionStep> {
        let told = |field: Field| {
            let index = field.index();
            self.plain.get(index).is_some_and(Option::is_some) || self.wide.get(index).is_some_and(Option::is_some)
        };
        let (_, (section, octets)) = self.section.filter(|_| ![Field::SrcIp, Field::DstIp].into_iter().any(told))?;
        let about = |about: About| self.about.get(about as usize).copied().flatten().map(|(_, number)| number);
        Some(SectionStep {
            section,
            octets,
            frame_length: about(About::FrameLength),
            frame_type: about(About::FrameType),
            left_out: about(About::Offset),
            exported: about(About::Exported),
        })
    }
}

/// How many bytes a moment takes (RFC 7011, 6.1.7 to 6.1.10). Reduced-size encoding does not apply to moments.
const fn width_of(moment: Moment) -> usize {
    match moment {
        Moment::Uptime | Moment::Seconds | Moment::MicrosecondsBeforeExport => 4,
        Moment::Milliseconds | Moment::Ntp => 8,
    }
}

impl Plan {
    /// The plan for records of `fields`.
    pub(super) fn compile(fields: &[FieldSpecifier]) -> Self {
        let mut candidates = Candidates {
            plain: [None; FIELD_COUNT],
            wide: [None; FIELD_COUNT],
            first: None,
            last: None,
            duration: None,
            system_init: None,
            interval: None,
            taken: None,
            skipped: None,
            sampler: None,
            section: None,
            application: None,
            about: [None; 4],
        };
        let (mut unknown, mut of_section) = (Vec::new(), Vec::new());
        let (mut offset, mut bad_widths, mut variable) = (0usize, 0usize, 0usize);
        let mut spans = Vec::new();
        // With two protocols a record is about a packet inside another.
        let is_protocol = |field: &&FieldSpecifier| (field.enterprise, field.id) == (0, 4) && field.length != VARIABLE;
        let layered = fields.iter().filter(is_protocol).count() > 1;
        for field in fields {
            let element = find(field.enterprise, field.id);
            match element.map(|element| element.target) {
                None => unknown.push((field.enterprise, field.id)),
                Some(Target::Packet(_) | Target::AboutSection(_)) => of_section.push((field.enterprise, field.id)),
                Some(_) => {}
            }
            if field.length == VARIABLE {
                // Only strings and octet arrays may vary (RFC 7011, 7).
                let taken =
                    element.is_none_or(|element| candidates.offer_variable(element.target, element.rank, spans.len()));
                bad_widths = bad_widths.saturating_add(usize::from(!taken));
                variable = variable.saturating_add(1);
                spans.push(Span::Variable);
                continue;
            }
            let width = usize::from(field.length);
            if let Some(element) = element {
                let target = if layered { candidates.layered(element.target) } else { element.target };
                let taken = candidates.offer(target, element.rank, offset, width);
                bad_widths = bad_widths.saturating_add(usize::from(!taken));
            }
            offset = offset.saturating_add(width);
            match spans.last_mut() {
                Some(Span::Fixed(length)) => *length = length.saturating_add(width),
                _ => spans.push(Span::Fixed(width)),
            }
        }
        let section = candidates.section();
        if section.is_none() {
            unknown.append(&mut of_section);
        }
        let application = candidates.application();
        let mut remember = |octets: Option<Octets>, kept: Span| {
            if let Some(Octets::Variable { span }) = octets
                && let Some(span) = spans.get_mut(span)
            {
                *span = kept;
            }
        };
        remember(section.map(|step| step.octets), Span::Section);
        remember(application, Span::Application);
        unknown.sort_unstable();
        unknown.dedup();
        let has = |field: Field| candidates.plain.get(field.index()).is_some_and(Option::is_some);
        let counting = if has(Field::FirewallEvent) {
            Counting::FirewallEvents
        } else if has(Field::NatEvent) && ![Field::InBytes, Field::OutBytes].into_iter().any(has) {
            Counting::Log
        } else {
            Counting::Flows
        };
        let number = |best: Option<(u8, Number)>| best.map(|(_, number)| number);
        let sampling = SamplingStep {
            interval: number(candidates.interval),
            spaced: number(candidates.taken).zip(number(candidates.skipped)),
            sampler: number(candidates.sampler),
        };
        let columns = Field::ALL.into_iter().zip(candidates.plain.into_iter().zip(candidates.wide));
        Self {
            record_length: offset,
            layout: match variable {
                0 => Layout::Fixed,
                _ => Layout::Variable { spans, minimum: offset.saturating_add(variable) },
            },
            columns: columns
                .filter_map(|(field, (plain, wide))| {
                    let source = match (plain, wide) {
                        (Some((_, Source::V4 { offset: v4 })), Some((_, v6))) => Source::Either { v4, v6 },
                        (Some((_, source)), _) => source,
                        (None, Some((_, offset))) => Source::V6 { offset },
                        (None, None) => return None,
                    };
                    Some((field, source))
                })
                .collect(),
            first: candidates.first.map(|(_, step)| step),
            last: candidates.last.map(|(_, step)| step),
            duration: candidates.duration.map(|(_, step)| step),
            system_init: candidates.system_init.map(|(_, offset)| offset),
            sampling,
            counting,
            section,
            application,
            bad_widths,
            unknown,
        }
    }

    /// The shortest record this plan reads, in bytes; 0 when the template describes nothing.
    pub(super) const fn shortest(&self) -> usize {
        match self.layout {
            Layout::Fixed => self.record_length,
            Layout::Variable { minimum, .. } => minimum,
        }
    }
}
