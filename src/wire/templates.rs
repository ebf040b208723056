//! What a template says, and how template sets are read.
//!
//! Promises: nothing is allocated for fields whose bytes are not there; a definition that cannot be used says which
//! reason and which identifier, so that the old definition can be dropped with it. Knows the three layouts of definitions
//! (v9 options templates count bytes, IPFIX's count fields, plain ones are alike but for enterprise numbers).

use super::Version;
use super::plan::Plan;
use super::reader::Reader;
use super::reason::Reason;

/// The length that stands for "variable" in IPFIX (RFC 7011, 7).
pub(super) const VARIABLE: u16 = 65_535;
/// The lowest identifier of a template.
pub(super) const FIRST_TEMPLATE: u16 = 256;

/// One field of a template.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct FieldSpecifier {
    /// The private enterprise number; 0 is IANA.
    pub(super) enterprise: u32,
    /// The information element; in the scope of v9 options the scope type.
    pub(super) id: u16,
    /// Bytes on the wire, or [`VARIABLE`].
    pub(super) length: u16,
}

/// What the records of a template are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum TemplateKind {
    /// Flows.
    Data,
    /// Facts about the exporter; so many leading fields are the scope.
    Options { scope: u16 },
}

/// A template, ready to decode with.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Template {
    /// What its records are.
    pub(super) kind: TemplateKind,
    /// Its fields in order.
    pub(super) fields: Box<[FieldSpecifier]>,
    /// What to copy from each record.
    pub(super) plan: Plan,
}

impl Template {
    /// Compiles a template.
    pub(super) fn new(kind: TemplateKind, fields: &[FieldSpecifier]) -> Self {
        // Of options only the exporter's start is read. In v9 scope types are not elements, so the scope counts for nothing.
        let scope = match kind {
            TemplateKind::Data => 0,
            TemplateKind::Options { scope } => usize::from(scope),
        };
        let masked: Vec<_> = fields
            .iter()
            .enumerate()
            .map(
                |(index, field)| if index < scope { FieldSpecifier { enterprise: u32::MAX, ..*field } } else { *field },
            )
            .collect();
        Self { kind, fields: fields.into(), plan: Plan::compile(&masked) }
    }

    /// About how many bytes of memory it takes.
    pub(super) fn memory(&self) -> usize {
        let fields = self.fields.len().saturating_mul(size_of::<FieldSpecifier>().saturating_add(16));
        fields.saturating_add(512)
    }
}

/// What one definition in a template set comes to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Definition {
    /// A usable one; its fields are in the memory that was handed in.
    Usable { id: u16, kind: TemplateKind },
    /// One to be counted; the old definition of `id` is void as well.
    Refused { id: u16, reason: Reason },
    /// A withdrawal of one template, or, with identifier 2 or 3, of all templates or options templates.
    Withdrawal { id: u16 },
    /// The rest of the set cannot be read.
    Unreadable,
}

/// Reads the next definition of a set into `fields`; `None` at the end or in the padding.
pub(super) fn next_definition(
    version: Version,
    options: bool,
    reader: &mut Reader<'_>,
    fields_limit: usize,
    fields: &mut Vec<FieldSpecifier>,
) -> Option<Definition> {
    fields.clear();
    if reader.is_padding() {
        return None;
    }
    Some(read_definition(version, options, reader, fields_limit, fields).unwrap_or(Definition::Unreadable))
}

fn read_definition(
    version: Version,
    options: bool,
    reader: &mut Reader<'_>,
    fields_limit: usize,
    fields: &mut Vec<FieldSpecifier>,
) -> Option<Definition> {
    let id = reader.u16()?;
    let ipfix = version == Version::Ipfix;
    let (count, kind, allowed) = if options && !ipfix {
        // RFC 3954, 6.1: both lengths in bytes.
        let (scope, rest) = (reader.u16()?, reader.u16()?);
        let count = (scope >> 2).saturating_add(rest >> 2);
        (count, TemplateKind::Options { scope: scope >> 2 }, scope.is_multiple_of(4) && rest.is_multiple_of(4))
    } else {
        let count = reader.u16()?;
        if ipfix && count == 0 {
            // RFC 7011, 8.1: no fields follow; identifier 2 or 3 withdraws all.
            return Some(Definition::Withdrawal { id });
        }
        if options {
            let scope = reader.u16()?;
            (count, TemplateKind::Options { scope }, scope <= count)
        } else {
            (count, TemplateKind::Data, true)
        }
    };
    if id < FIRST_TEMPLATE {
        return None;
    }
    let refuse = |reason| Some(Definition::Refused { id, reason });
    if usize::from(count).saturating_mul(4) > reader.len() || !allowed {
        // The next definition cannot be found any more.
        let rest = reader.len();
        reader.take(rest);
        return refuse(Reason::TemplateInvalid);
    }
    let (mut total, mut valid) = (0u64, true);
    for index in 0..usize::from(count) {
        let Some(field) = read_field(ipfix, reader) else {
            let rest = reader.len();
            reader.take(rest);
            return refuse(Reason::TemplateInvalid);
        };
        total = total.saturating_add(field.length.into());
        valid &= ipfix || field.length != VARIABLE;
        if index < fields_limit {
            fields.push(field);
        }
    }
    if !valid {
        return refuse(Reason::TemplateInvalid);
    }
    if total == 0 {
        return refuse(Reason::TemplateZero);
    }
    if usize::from(count) > fields_limit {
        return refuse(Reason::TemplateLimit);
    }
    Some(Definition::Usable { id, kind })
}

fn read_field(ipfix: bool, reader: &mut Reader<'_>) -> Option<FieldSpecifier> {
    let (id, length) = (reader.u16()?, reader.u16()?);
    if ipfix && id & 0x8000 != 0 {
        return Some(FieldSpecifier { enterprise: reader.u32()?, id: id & 0x7fff, length });
    }
    Some(FieldSpecifier { enterprise: 0, id, length })
}
