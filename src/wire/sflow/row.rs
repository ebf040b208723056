//! One flow on its way into the columns.
//!
//! A packet sample has one packet, and what is known of it differs from packet to packet; so flows are gathered one by one
//! and written when all of a sample was read. A value that is not known costs a comparison.

use crate::flow::batch::{AddressRun, Column, FlowBatch};
use crate::flow::fields::Field;
use crate::flow::value::v4_from_wide;

/// Writes an address of 128 bits, IPv4 as IPv4-mapped, into a row.
fn address(column: &mut Column, row: usize, address: u128) {
    match v4_from_wide(address) {
        Some(v4) => match column.v4_run(row, 1) {
            AddressRun::V4(room) => room.fill(v4),
            AddressRun::Wide(room) => room.fill(address),
        },
        None => column.wide_run(row, 1).fill(address),
    }
}

macro_rules! write_one {
    (address $column:expr, $row:expr, $value:expr) => {
        address($column, $row, $value)
    };
    ($run:ident $column:expr, $row:expr, $value:expr) => {
        $column.$run($row, 1).fill($value)
    };
}

macro_rules! row {
    ($($name:ident $field:ident $type:ident $run:ident;)+) => {
        /// What is known of a flow, by field.
        #[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
        pub(super) struct Row {
            $(
                #[doc = concat!("[`Field::", stringify!($field), "`].")]
                pub(super) $name: Option<$type>,
            )+
        }

        impl Row {
            /// Writes what is known into row `position`.
            pub(super) fn write(&self, batch: &mut FlowBatch, position: usize) {
                $(
                    if let Some(value) = self.$name {
                        write_one!($run batch.column_mut(Field::$field), position, value);
                    }
                )+
            }
        }
    };
}

row! {
    src_ip SrcIp u128 address;
    dst_ip DstIp u128 address;
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
    next_hop NextHop u128 address;
    bgp_next_hop BgpNextHop u128 address;
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
    inner_src_ip InnerSrcIp u128 address;
    inner_dst_ip InnerDstIp u128 address;
    inner_protocol InnerProtocol u8 u8_run;
    post_nat_src_ip PostNatSrcIp u128 address;
    post_nat_dst_ip PostNatDstIp u128 address;
}
