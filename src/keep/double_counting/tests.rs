//! Double counting is found where it is, with what would end it, and not where it is not.

use super::*;
use crate::flow::counting::Count;
use crate::flow::double_counting::Proposal;

const START: i64 = 1_795_392_000 * SECOND;
const INGRESS: Option<u8> = Some(0);
const EGRESS: Option<u8> = Some(1);

/// A flow as the tests tell it.
#[derive(Clone, Copy)]
struct Told {
    exporter: u32,
    domain: u32,
    direction: Option<u8>,
    interfaces: [u32; 2],
    tuple: (u32, u32, u16, u16, u8),
    times: Option<[i64; 2]>,
    bytes: u64,
    packets: Option<u64>,
}

impl Told {
    /// The `number`th flow, different from all others.
    fn new(number: u32) -> Self {
        let port = 1_024 + (number % 60_000) as u16;
        let first = START + i64::from(number % 3_000) * SECOND;
        Self {
            exporter: 1,
            domain: 0,
            direction: None,
            interfaces: [1, 2],
            tuple: (0x0a00_0000 + number / 7, 0xc633_6401, port, 443, 6),
            times: Some([first, first + 2 * SECOND]),
            bytes: 1_000 + u64::from(number),
            packets: Some(10),
        }
    }

    fn at(self, exporter: u32, direction: Option<u8>, interfaces: [u32; 2]) -> Self {
        Self { exporter, direction, interfaces, ..self }
    }

    fn write(&self, batch: &mut FlowBatch, wide: bool) {
        let row = batch.add_rows(1);
        let (source, destination, source_port, destination_port, protocol) = self.tuple;
        batch.column_mut(Field::Received).time_run(row, 1).fill(START + 60 * SECOND);
        for (field, number) in [
            (Field::ExporterId, self.exporter),
            (Field::ObservationDomain, self.domain),
            (Field::InputInterface, self.interfaces[0]),
            (Field::OutputInterface, self.interfaces[1]),
        ] {
            batch.column_mut(field).u32_run(row, 1).fill(number);
        }
        for (field, address) in [(Field::SrcIp, source), (Field::DstIp, destination)] {
            if wide {
                batch.column_mut(field).wide_run(row, 1).fill(wide_from_v4(address));
            } else if let crate::flow::batch::AddressRun::V4(room) = batch.column_mut(field).v4_run(row, 1) {
                room.fill(address);
            }
        }
        batch.column_mut(Field::SrcPort).u16_run(row, 1).fill(source_port);
        batch.column_mut(Field::DstPort).u16_run(row, 1).fill(destination_port);
        batch.column_mut(Field::Protocol).u8_run(row, 1).fill(protocol);
        batch.column_mut(Field::InBytes).u64_run(row, 1).fill(self.bytes);
        if let Some(packets) = self.packets {
            batch.column_mut(Field::InPackets).u64_run(row, 1).fill(packets);
        }
        if let Some([first, last]) = self.times {
            batch.column_mut(Field::FirstSeen).time_run(row, 1).fill(first);
            batch.column_mut(Field::LastSeen).time_run(row, 1).fill(last);
        }
        if let Some(direction) = self.direction {
            batch.column_mut(Field::Direction).u8_run(row, 1).fill(direction);
        }
    }
}

fn batch(told: &[Told]) -> FlowBatch {
    let mut batch = FlowBatch::default();
    told.iter().for_each(|told| told.write(&mut batch, false));
    batch
}

fn findings(told: &[Told]) -> Vec<Finding> {
    let mut detector = DoubleCounting::new(0);
    detector.add(&batch(told), |_| true);
    detector.findings()
}

fn side(exporter_id: u32, direction: Option<u8>) -> Side {
    Side { exporter_id, direction: direction.and_then(|code| FlowDirection::from_code(code.into())) }
}

/// Two sides, and for which exporter what is proposed.
type Proposed = ([Side; 2], Option<(u32, String)>);

fn proposed(told: &[Told]) -> Vec<Proposed> {
    let proposal = |(exporter, proposal): (u32, Proposal)| (exporter, proposal.to_string());
    findings(told).into_iter().map(|finding| (finding.sides, finding.proposal.map(proposal))).collect()
}

/// Each of `numbers` as each of `points` tells it.
fn at_points(numbers: std::ops::Range<u32>, points: &[(u32, Option<u8>, [u32; 2])]) -> Vec<Told> {
    let at = |number| points.iter().map(move |(exporter, way, ports)| Told::new(number).at(*exporter, *way, *ports));
    numbers.flat_map(at).collect()
}

#[test]
fn an_exporter_that_meters_what_comes_and_what_leaves_is_found_with_evidence_and_shall_count_one() {
    let told = at_points(0..200, &[(7, INGRESS, [1, 2]), (7, EGRESS, [1, 2])]);
    let found = findings(&told);
    let [finding] = found.as_slice() else { panic!("{found:#?}") };
    assert_eq!(finding.sides, [side(7, INGRESS), side(7, EGRESS)]);
    assert_eq!((finding.compared_flows, finding.matched_flows, finding.sampled_one_in), ([200, 200], 200, 1));
    assert_eq!(finding.matched_bytes, (0..200).map(|number| 1_000 + number).sum::<u64>());
    let points = PointPair { observation_domains: [0, 0], interfaces: [Some(1), Some(2)], matched_flows: 200 };
    assert_eq!(finding.points, [points]);
    assert_eq!(finding.proposal, Some((7, Proposal::Count(Count::Ingress))));
    let bytes: Vec<_> = finding.examples.iter().map(|example| example.bytes).collect();
    assert_eq!(bytes, [1_199, 1_198], "the largest ones");
    let example = &finding.examples[0];
    assert_eq!((example.src_ip.to_string(), example.dst_ip.to_string()), ("10.0.0.28".into(), "198.51.100.1".into()));
    assert_eq!((example.src_port, example.dst_port, example.protocol, example.packets), (1_223, 443, 6, Some(10)));
    assert_eq!((example.interfaces, example.first_seen), ([Some(1), Some(2)], [START + 199 * SECOND; 2]));
}

#[test]
fn what_one_direction_alone_tells_is_not_given_up() {
    // Egress is metered on more interfaces than ingress.
    let mut told = at_points(0..200, &[(7, INGRESS, [1, 2]), (7, EGRESS, [1, 2])]);
    told.extend(at_points(200..400, &[(7, EGRESS, [3, 2])]));
    assert_eq!(proposed(&told), [([side(7, INGRESS), side(7, EGRESS)], Some((7, "count = \"egress\"".into())))]);
    // And ingress on others.
    told.extend(at_points(400..600, &[(7, INGRESS, [1, 4])]));
    assert_eq!(proposed(&told), [([side(7, INGRESS), side(7, EGRESS)], None)]);
    // A direction that only some flows tell.
    let told = at_points(0..200, &[(7, None, [1, 2]), (7, EGRESS, [1, 2])]);
    assert_eq!(proposed(&told), [([side(7, None), side(7, EGRESS)], Some((7, "count = \"ingress\"".into())))]);
}

#[test]
fn of_two_routers_in_line_the_one_whose_flows_the_other_tells_shall_not_count() {
    let mut told = at_points(0..300, &[(1, INGRESS, [5, 6]), (2, INGRESS, [8, 9])]);
    told.extend(at_points(300..500, &[(1, INGRESS, [5, 7])]));
    assert_eq!(proposed(&told), [([side(1, INGRESS), side(2, INGRESS)], Some((2, "count = \"none\"".into())))]);
    // Of two that tell the same, the one that came later.
    let told = at_points(0..300, &[(4, None, [5, 6]), (3, None, [8, 9])]);
    assert_eq!(proposed(&told), [([side(3, None), side(4, None)], Some((4, "count = \"none\"".into())))]);
}

#[test]
fn long_flows_that_two_routers_cut_differently_do_not_hide_that_one_tells_all() {
    let mut told = at_points(0..300, &[(1, None, [5, 6]), (2, None, [8, 9])]);
    for flow in told.iter_mut().step_by(6) {
        flow.bytes += 60;
    }
    let found = findings(&told);
    assert_eq!((found[0].matched_flows, found[0].compared_flows), (200, [300, 300]));
    assert_eq!(found[0].proposal, Some((2, Proposal::Count(Count::None))));
}

#[test]
fn interfaces_are_proposed_that_carry_what_the_other_does_not_tell() {
    let mut told = at_points(0..300, &[(1, None, [5, 6]), (2, None, [8, 9])]);
    told.extend(at_points(300..600, &[(1, None, [5, 7])]));
    told.extend(at_points(600..700, &[(2, None, [3, 4])]));
    told.extend(at_points(700..800, &[(2, None, [4, 0])]));
    let sides = [side(1, None), side(2, None)];
    assert_eq!(proposed(&told), [(sides, Some((2, "count_interfaces = [3, 4]".into())))]);
    // The same interface carries both: nothing separates them, neither there nor at the other one.
    let mut told = at_points(0..300, &[(1, None, [5, 6]), (2, None, [8, 9])]);
    told.extend(at_points(300..600, &[(1, None, [5, 6])]));
    told.extend(at_points(600..800, &[(2, None, [8, 9])]));
    assert_eq!(proposed(&told), [(sides, None)]);
}

#[test]
fn one_exporter_may_tell_the_same_from_two_interfaces_or_two_observation_domains() {
    let told = at_points(0..200, &[(7, None, [1, 2]), (7, None, [100, 2])]);
    assert_eq!(proposed(&told), [([side(7, None); 2], None)]);
    let mut told = at_points(0..200, &[(7, INGRESS, [1, 2]), (7, INGRESS, [1, 2])]);
    assert_eq!(findings(&told), [], "one point repeats itself");
    told.iter_mut().step_by(2).for_each(|flow| flow.domain = 256);
    let found = findings(&told);
    assert_eq!((found[0].sides, found[0].matched_flows), ([side(7, INGRESS); 2], 200));
    assert_eq!(found[0].points[0].observation_domains, [0, 256]);
}

#[test]
fn a_router_with_many_interfaces_is_found_although_any_two_share_little() {
    let ports = |number: u32| [1 + number % 12, 1 + (number / 12) % 12];
    let told: Vec<_> = (0..1_440)
        .flat_map(|number| [INGRESS, EGRESS].map(|way| Told::new(number).at(1, way, ports(number))))
        .collect();
    let found = findings(&told);
    assert_eq!((found.len(), found[0].matched_flows, found[0].points.len()), (1, 1_440, POINTS));
    assert_eq!(found[0].points[0].matched_flows, 10);
}

#[test]
fn little_is_told_when_it_is_much_of_one_interface_and_not_when_it_is_little_of_all() {
    let shared = |count: u32, interface: u32| {
        let mut told = at_points(0..count, &[(1, None, [5, 6]), (2, None, [interface, 9])]);
        told.extend(at_points(10_000..13_000, &[(1, None, [5, 6])]));
        told.extend(at_points(20_000..23_000, &[(2, None, [8, 9])]));
        findings(&told).len()
    };
    // Fewer than 100, of however few.
    assert_eq!((shared(99, 3), shared(100, 3)), (0, 1));
    // 120 of 3,120 are less than 1 in 20; 160 of 3,160 are more.
    assert_eq!((shared(120, 8), shared(160, 8)), (0, 1));
}

#[test]
fn flows_differ_in_bytes_packets_or_time_or_are_the_same_within_five_seconds() {
    let count = |change: &dyn Fn(&mut Told)| {
        let mut told = at_points(0..200, &[(1, None, [1, 2]), (2, None, [3, 4])]);
        told.iter_mut().step_by(2).for_each(change);
        findings(&told).first().map_or(0, |finding| finding.matched_flows)
    };
    let later = |seconds: i64| {
        move |told: &mut Told| told.times = told.times.map(|times| times.map(|time| time + seconds * SECOND))
    };
    assert_eq!(count(&|_| {}), 200);
    assert_eq!(count(&|told| told.bytes += 1), 0);
    assert_eq!(count(&|told| told.packets = Some(9)), 0);
    assert_eq!(count(&|told| told.packets = None), 200);
    // Flows last two seconds.
    assert_eq!((count(&later(7)), count(&later(-7))), (200, 200));
    assert_eq!((count(&later(8)), count(&later(-8))), (0, 0));
    // Without times of its own a flow was when it was received: START + 60 s.
    assert_eq!(count(&|told| told.times = None), 0);
    let mut untimed = at_points(0..200, &[(1, None, [1, 2]), (2, None, [3, 4])]);
    untimed.iter_mut().for_each(|told| told.times = None);
    assert_eq!(findings(&untimed)[0].matched_flows, 200);
}

#[test]
fn a_flow_is_matched_once_with_each_side_however_often_its_tuple_comes_again() {
    // The same resolver asks the same again and again; the second router tells of half of it.
    let mut told = Vec::new();
    for number in 0..400 {
        let again = Told { tuple: Told::new(number / 2).tuple, bytes: 80, times: None, ..Told::new(0) };
        told.push(again.at(1, None, [1, 2]));
        if number % 2 == 0 {
            told.push(again.at(2, None, [3, 4]));
            told.push(again.at(3, None, [3, 4]));
        }
    }
    let found = findings(&told);
    assert_eq!(found.len(), 3);
    assert!(found.iter().all(|finding| finding.matched_flows == 200), "{found:#?}");
}

#[test]
fn independent_traffic_is_not_found_even_of_networks_with_the_same_private_addresses() {
    let mut random = fastrand::Rng::with_seed(11);
    let mut told = Vec::new();
    for number in 0..40_000 {
        let flow = Told::new(number % 2_000);
        // Branches with the same plan of addresses: pings and clocks of one size all the time, names by chance ports.
        let tuple = match random.u8(0..4) {
            0 => (0xc0a8_0000 + random.u32(1..20), 0x0808_0808, 0, 2_048, 1),
            1 => (0xc0a8_0000 + random.u32(1..20), 0x0808_0404, 123, 123, 17),
            2 => (0xc0a8_0000 + random.u32(1..20), 0x0808_0808, random.u16(32_768..61_000), 53, 17),
            _ => (0xc0a8_0000 + random.u32(1..20), random.u32(..), random.u16(32_768..61_000), 443, 6),
        };
        let bytes = if tuple.4 == 6 { random.u64(40..100_000) } else { 76 };
        let way = [INGRESS, EGRESS, None][random.usize(0..3)];
        let ports = [random.u32(1..4), random.u32(1..4)];
        told.push(Told { tuple, bytes, packets: Some(1), ..flow }.at(random.u32(1..4), way, ports));
    }
    assert_eq!(findings(&told), []);
}

#[test]
fn a_sample_keeps_to_its_bound_and_keeps_pairs_together() {
    let mut detector = DoubleCounting::holding(1_000, 0);
    for first in (0..40_000).step_by(400) {
        detector.add(&batch(&at_points(first..first + 400, &[(1, INGRESS, [1, 2]), (1, EGRESS, [1, 2])])), |_| true);
        assert!(detector.kept.len() <= 1_000);
    }
    let found = detector.findings();
    let finding = &found[0];
    assert_eq!(finding.matched_flows, finding.compared_flows[0]);
    assert!(finding.sampled_one_in.is_power_of_two() && finding.sampled_one_in > 40, "{finding:?}");
    let estimated = finding.matched_flows * u64::from(finding.sampled_one_in);
    assert!((30_000..50_000).contains(&estimated), "{finding:?}");
}

#[test]
fn a_sample_is_chosen_at_once_where_it_is_known_how_many_flows_there_are() {
    for (flows, one_in) in [(0, 1), (MAX_KEPT, 1), (MAX_KEPT + 1, 2), (5 * MAX_KEPT, 8), (usize::MAX, 1 << 31)] {
        assert_eq!(DoubleCounting::new(flows).mask + 1, one_in, "{flows}");
    }
}

#[test]
fn one_tuple_that_comes_without_end_does_not_break_the_bound() {
    let mut detector = DoubleCounting::holding(100, 0);
    let same = [Told::new(1).at(1, None, [1, 2]), Told::new(1).at(2, None, [1, 2])].repeat(1_000);
    detector.add(&batch(&same), |_| true);
    assert!(detector.kept.len() <= 100);
    assert!(detector.findings().len() <= 1);
}

#[test]
fn two_points_are_compared_although_all_flows_of_one_come_before_any_of_the_other() {
    let mut detector = DoubleCounting::new(0);
    for exporter in [1, 2] {
        for numbers in [0..250, 250..500] {
            detector.add(&batch(&at_points(numbers, &[(exporter, INGRESS, [1, 2])])), |_| true);
        }
    }
    let found = detector.findings();
    assert_eq!((found[0].matched_flows, found[0].compared_flows), (500, [500, 500]));
}

#[test]
fn flows_that_do_not_count_are_not_looked_at() {
    let told = at_points(0..200, &[(7, INGRESS, [1, 2]), (7, EGRESS, [1, 2])]);
    let batch = batch(&told);
    let mut detector = DoubleCounting::new(0);
    detector.add(&batch, |row| batch.column(Field::Direction).bits(row) == Some(0));
    assert_eq!(detector.findings(), []);
}

#[test]
fn an_address_is_the_same_in_narrow_and_wide_columns_and_flows_without_ports_or_bytes_are_left_out() {
    let mut detector = DoubleCounting::new(0);
    for (exporter, wide) in [(1, false), (2, true)] {
        let mut batch = FlowBatch::default();
        for number in 0..200 {
            Told::new(number).at(exporter, None, [1, 2]).write(&mut batch, wide);
            Told { bytes: 0, ..Told::new(number + 1_000) }.at(exporter, None, [1, 2]).write(&mut batch, wide);
        }
        batch.add_rows(5);
        detector.add(&batch, |_| true);
    }
    let found = detector.findings();
    assert_eq!((found[0].matched_flows, found[0].compared_flows), (200, [200, 200]));
}
