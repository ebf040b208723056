//! Flows on their way into the columns.
//!
//! What is known differs from packet to packet; so flows that are made of packets are gathered row by row, and then written
//! column by column, in runs of rows that have a value.

use crate::flow::batch::{AddressRun, Column, FlowBatch};
use crate::flow::fields::Field;
use crate::flow::value::v4_from_wide;

/// Writes `count` addresses of 128 bits, IPv4 as IPv4-mapped, from row `first` on.
fn addresses(column: &mut Column, first: usize, count: usize, values: impl Iterator<Item = u128> + Clone) {
    if !values.clone().all(|value| v4_from_wide(value).is_some()) {
        column.wide_run(first, count).iter_mut().zip(values).for_each(|(slot, value)| *slot = value);
        return;
    }
    match column.v4_run(first, count) {
        // The lower 32 bits.
        AddressRun::V4(room) => room.iter_mut().zip(values).for_each(|(slot, value)| *slot = value as u32),
        AddressRun::Wide(room) => room.iter_mut().zip(values).for_each(|(slot, value)| *slot = value),
    }
}

macro_rules! write_run {
    (addresses $column:expr, $first:expr, $rows:expr, $name:ident) => {
        addresses($column, $first, $rows.len(), $rows.iter().filter_map(|row| row.$name))
    };
    ($run:ident $column:expr, $first:expr, $rows:expr, $name:ident) => {
        for (slot, row) in $column.$run($first, $rows.len()).iter_mut().zip($rows) {
            *slot = row.$name.unwrap_or_default();
        }
    };
}

macro_rules! row {
    ($($name:ident $field:ident $type:ident $run:ident;)+) => {
        /// What is known of a flow, by field.
        #[derive(Clone, Debug, Default)]
        pub(super) struct Row {
            $(
                #[doc = concat!("[`Field::", stringify!($field), "`].")]
                pub(super) $name: Option<$type>,
            )+
        }

        /// Writes what is known of `rows` from row `first` on, but for the fields that are `taken` already.
        pub(super) fn write(rows: &[Row], batch: &mut FlowBatch, first: usize, taken: impl Fn(Field) -> bool) {
            $(
                if !taken(Field::$field) {
                    let mut position = first;
                    for alike in rows.chunk_by(|a, b| a.$name.is_some() == b.$name.is_some()) {
                        if alike.first().is_some_and(|row| row.$name.is_some()) {
                            write_run!($run batch.column_mut(Field::$field), position, alike, $name);
                        }
                        position = position.saturating_add(alike.len());
                    }
                }
            )+
        }
    };
}

row! {
    src_ip SrcIp u128 addresses;
    dst_ip DstIp u128 addresses;
    src_port SrcPort u16 u16_run;
    dst_port DstPort u16 u16_run;
    protocol Protocol u8 u8_run;
    in_bytes InBytes u64 u64_run;
    tcp_flags TcpFlags u16 u16_run;
    src_tos SrcTos u8 u8_run;
    input_interface InputInterface u32 u32_run;
    output_interface OutputInterface u32 u32_run;
    src_as SrcAs u32 u32_run;
    dst_as DstAs u32 u32_run;
    src_mask SrcMask u8 u8_run;
    dst_mask DstMask u8 u8_run;
    next_hop NextHop u128 addresses;
    bgp_next_hop BgpNextHop u128 addresses;
    src_vlan SrcVlan u16 u16_run;
    dst_vlan DstVlan u16 u16_run;
    in_src_mac InSrcMac u64 u64_run;
    in_dst_mac InDstMac u64 u64_run;
    icmp_type IcmpType u8 u8_run;
    icmp_code IcmpCode u8 u8_run;
    forwarding_status ForwardingStatus u8 u8_run;
    sampling_interval SamplingInterval u32 u32_run;
    previous_as PreviousAs u32 u32_run;
    next_as NextAs u32 u32_run;
    mpls_label_1 MplsLabel1 u32 u32_run;
    mpls_label_2 MplsLabel2 u32 u32_run;
    mpls_label_3 MplsLabel3 u32 u32_run;
    ethernet_type EthernetType u16 u16_run;
    customer_vlan CustomerVlan u16 u16_run;
    layer2_segment_id Layer2SegmentId u64 u64_run;
    flow_label FlowLabel u32 u32_run;
    min_ttl MinTtl u8 u8_run;
    max_ttl MaxTtl u8 u8_run;
    inner_src_ip InnerSrcIp u128 addresses;
    inner_dst_ip InnerDstIp u128 addresses;
    inner_protocol InnerProtocol u8 u8_run;
    post_nat_src_ip PostNatSrcIp u128 addresses;
    post_nat_dst_ip PostNatDstIp u128 addresses;
}
