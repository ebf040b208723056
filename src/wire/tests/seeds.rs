//! The first inputs of the fuzz targets, made from the fixtures of the tests.
//!
//! `cargo test --lib seeds -- --ignored` writes them to `fuzz/seeds`, beside those that fuzzing found. What the bytes mean
//! is told in `fuzz/checks.rs` and `fuzz/streams.rs`.

use super::build::{be, iana, ipfix, v1, v1_padded, v5, v7, v9};
use super::build_sflow::{
    block, counters, datagram, ethernet, expanded, expanded_counters, flow, interface_counters, ipv4, ipv6, ordinary,
    rich, sampled, tcp, udp, words,
};
use super::fixtures;
use std::path::Path;

/// An input in the making.
#[derive(Clone)]
struct Input(Vec<u8>);

const EXPORTER: u8 = 1 << 3;
const PORT: u8 = 1 << 4;
const STREAM: u8 = 1 << 5;
const UNPARK: u8 = 5;
const EXPIRE: u8 = 6;
const SAVE: u8 = 7;

impl Input {
    fn new() -> Self {
        Self(vec![0])
    }

    /// The same with small limits.
    fn small(&self) -> Self {
        let mut small = self.clone();
        small.0[0] = 1;
        small
    }

    /// A step without a datagram.
    fn step(mut self, action: u8, wait: u8) -> Self {
        self.0.extend([action, wait]);
        self
    }

    /// A datagram from `whom` after `wait`.
    fn send(self, whom: u8, wait: u8, datagram: &[u8]) -> Self {
        let mut input = self.step(whom | 1, wait);
        input.0.extend(u16::try_from(datagram.len()).unwrap().to_be_bytes());
        input.0.extend(datagram);
        input
    }
}

fn write(target: &str, inputs: Vec<(&str, Input)>) {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz/seeds").join(target);
    std::fs::create_dir_all(&folder).unwrap();
    for (name, input) in inputs {
        std::fs::write(folder.join(format!("{name}-small")), input.small().0).unwrap();
        std::fs::write(folder.join(name), input.0).unwrap();
    }
}

fn fixture(name: &str) -> Vec<u8> {
    fixtures::all().into_iter().find(|(other, _)| *other == name).unwrap().1
}

#[test]
#[ignore = "writes fuzz/seeds"]
fn inputs_of_fixed_formats_are_written() {
    let later = |uptime: u32, sequence| {
        let mut datagram = v5(sequence, 2);
        datagram[4..8].copy_from_slice(&uptime.to_be_bytes());
        datagram
    };
    let lost = Input::new().send(0, 0, &v5(0, 3)).send(0, 1, &v5(9, 2)).step(SAVE, 0).send(0, 1, &v5(3, 3));
    let restart = Input::new().send(0, 0, &later(3_000_000_000, 4_000_000)).send(0, 60, &later(30_000, 0));
    let others = Input::new().send(EXPORTER, 0, &v5(0, 1)).send(PORT, 0, &v5(50, 1)).send(0, 0, &v5(70, 30));
    let elsewhere = (1..5).fold(Input::new().send(0, 0, &v5(4_000_000_000, 2)), |input, number| {
        input.send(0, 1, &v5(2 * number, 2)).step(SAVE, 0)
    });
    let twice = Input::new().send(0, 0, &v5(0, 1)).send(0, 0, &v5(0, 1)).step(SAVE, 0).send(0, 0, &v5(0, 1));
    let mut inputs =
        vec![("lost", lost), ("restart", restart), ("others", others), ("elsewhere", elsewhere), ("twice", twice)];
    inputs.push(("v7", Input::new().send(0, 0, &v7(0, 2)).send(0, 1, &v7(7, 1)).step(SAVE, 0).send(0, 1, &v7(2, 5))));
    inputs.push(("v1", Input::new().send(0, 0, &v1(3)).send(0, 1, &v1_padded(2, 11)).step(SAVE, 0).send(0, 1, &v1(1))));
    write("netflow_fixed", inputs);
}

#[test]
#[ignore = "writes fuzz/seeds"]
fn inputs_of_formats_with_templates_are_written() {
    for (target, message) in [("netflow_v9", v9 as fn(u32) -> _), ("ipfix", ipfix)] {
        let of = |sequence: u32, step: u32| message(if target == "ipfix" { sequence } else { step });
        let template = of(0, 0).template(256, &iana(&fixtures::V4)).bytes();
        let data = |sequence, step| of(sequence, step).data(256, &[fixtures::record(&fixtures::V4, 1)]).bytes();
        let all = Input::new().send(0, 0, &fixture(if target == "ipfix" { "ipfix" } else { "v9" }));
        let parked = Input::new().send(0, 0, &data(0, 1)).send(PORT, 0, &data(0, 1)).step(SAVE, 1);
        let parked = parked.send(0, 2, &data(1, 2)).send(0, 3, &template).step(UNPARK, 0).step(SAVE, 0);
        let expired = Input::new().send(0, 0, &data(0, 1)).step(EXPIRE, 255).step(SAVE, 0);
        let lost = Input::new().send(0, 0, &template).send(0, 0, &data(4, 4)).step(SAVE, 0);
        let lost = lost.send(0, 0, &data(2, 2)).send(0, 1, &data(2, 2)).send(0, 1, &data(9, 9));
        let sampler = [(48, 4, 0), (50, 4, 0)];
        let rates = of(0, 0).options_template(300, &[(1, 4, 0)], &sampler);
        let rates = rates.data(300, &[[be(7, 4), be(1, 4), be(100, 4)].concat()]);
        let sampled = iana(&[(8, 4), (12, 4), (48, 4), (1, 4), (2, 4)]);
        let flows = [be(1, 4), be(2, 4), be(1, 4), be(900, 4), be(3, 4)].concat();
        let rates = rates.template(256, &sampled).data(256, &[flows]).bytes();
        let sampling = Input::new().send(0, 0, &rates).step(SAVE, 0).send(EXPORTER, 1, &rates).send(PORT, 1, &rates);
        let names = iana(&[(82, 8), (83, 16)]);
        let name = [be(3, 4), b"Gi0/3\0\0\0".to_vec(), b"up\x1blink to \xff\xfe b".to_vec()].concat();
        let names = of(0, 0).options_template(301, &[(if target == "ipfix" { 10 } else { 2 }, 4, 0)], &names);
        let names = Input::new().send(0, 0, &names.data(301, &[name]).bytes()).step(SAVE, 0);
        let applications = of(0, 0).options_template(302, &[(1, 4, 0)], &iana(&[(95, 4), (96, 8), (94, 8), (41, 8)]));
        let told =
            [be(0, 4), be(0x0d00_0050, 4), b"http\0\0\0\0".to_vec(), b"web\0\0\0\0\0".to_vec(), be(7, 8)].concat();
        let applications = Input::new().send(0, 0, &applications.data(302, &[told]).bytes());
        let events = iana(&[(8, 4), (12, 4), (225, 4), (233, 1), (323, 8), (230, 1), (148, 4)]);
        let event = [be(1, 4), be(2, 4), be(3, 4), vec![1], be(1_795_392_001_000, 8), vec![4], be(9, 4)].concat();
        let events = of(0, 0).template(263, &events).data(263, &[event.clone(), event]).bytes();
        let events = Input::new().send(0, 0, &events);
        let changed = Input::new().send(0, 0, &template);
        let narrow = of(0, 1).template(256, &iana(&[(1, 4), (2, 4)])).data(256, &[be(5, 8)]).bytes();
        let changed = changed.send(0, 1, &narrow).step(SAVE, 0).send(PORT, 0, &template).send(PORT, 1, &narrow);
        let mut inputs = vec![
            ("all", all),
            ("parked", parked),
            ("expired", expired),
            ("lost", lost),
            ("sampling", sampling),
            ("names", names),
            ("applications", applications),
            ("events", events),
            ("changed", changed),
        ];
        if target == "ipfix" {
            inputs.push(("strings", Input::new().send(0, 0, &fixture("ipfix with strings")).step(SAVE, 1)));
            inputs.push(("packets", Input::new().send(0, 0, &fixture("ipfix with packets")).step(SAVE, 1)));
            let withdrawal = ipfix(1).template(256, &[]).bytes();
            let withdrawal = Input::new().send(STREAM, 0, &template).send(STREAM, 0, &withdrawal);
            inputs.push(("withdrawal", withdrawal.send(STREAM, 0, &data(1, 0)).step(SAVE, 0)));
        } else {
            let mut old = v9(4_000_000).template(256, &iana(&fixtures::V4)).data(257, &[be(1, 4)]);
            old.uptime = 3_000_000_000;
            let mut new = v9(9).data(256, &[be(1, 4)]);
            new.uptime = 20_000;
            let restart = Input::new().send(0, 0, &old.bytes()).step(SAVE, 0).send(0, 60, &new.bytes());
            inputs.push(("restart", restart.step(SAVE, 0)));
        }
        write(target, inputs);
    }
}

#[test]
#[ignore = "writes fuzz/seeds"]
fn inputs_of_sflow_are_written() {
    let one = |samples: &[Vec<u8>]| Input::new().send(0, 0, &datagram(1, samples)).step(SAVE, 0);
    let frame = |kind: &[u8], payload: &[u8]| {
        let frame = ethernet(kind, payload);
        flow(&[sampled(1, frame.len() as u32 + 4, &frame)])
    };
    let inner = ethernet(&[8, 0], &ipv4(6, &tcp()));
    let tagged = frame(&[0x88, 0xa8, 0, 7, 0x81, 0, 0x20, 9, 8, 0], &ipv4(1, &[8, 0, 0, 0]));
    let labelled = frame(&[0x88, 0x47], &[&words(&[0x0001_0040, 0x0001_1140])[..], &ipv4(6, &tcp())].concat());
    let fragment = frame(&[0x86, 0xdd], &ipv6(44, &[&[6, 0, 0, 0, 0, 0, 0, 1][..], &tcp()].concat()));
    let tunnel = frame(&[8, 0], &ipv4(17, &udp(4_789, &[&[8, 0, 0, 0, 0, 0, 9, 0][..], &inner].concat())));
    let generic = frame(&[8, 0], &ipv4(47, &[&[0, 0, 8, 0][..], &ipv4(17, &udp(53, &[1]))].concat()));
    let known = block(4, &words(&[60, 6, 0, 0, 0, 1, 0, 0, 0, 2, 443, 50_000, 0x12, 0]));
    let bare = flow(&[sampled(11, 40, &ipv4(6, &tcp())), sampled(12, 60, &ipv6(6, &tcp()))]);
    let facts = counters(&[interface_counters(5), interface_counters(6), block(1005, b"\0\0\0\x05Gi0/5")]);
    let lost = Input::new().send(0, 0, &rich(1)).send(0, 1, &rich(9)).step(SAVE, 0).send(PORT, 1, &rich(4));
    let twice = Input::new().send(0, 0, &rich(1)).send(PORT, 0, &rich(1)).send(EXPORTER, 0, &rich(1));
    let inputs = vec![
        ("rich", Input::new().send(0, 0, &rich(1)).step(SAVE, 0).send(0, 1, &rich(2))),
        ("ordinary", one(&[ordinary(), ordinary()])),
        ("tagged", one(&[tagged])),
        ("labelled", one(&[labelled])),
        ("fragment", one(&[fragment])),
        ("tunnels", one(&[tunnel, generic])),
        ("bare", one(&[bare, expanded([1, 2, 2, 3], &[known])])),
        ("counters", one(&[facts, expanded_counters(&[interface_counters(7)])])),
        ("lost", lost),
        ("twice", twice),
    ];
    write("sflow", inputs);
}

#[test]
#[ignore = "writes fuzz/seeds"]
fn inputs_of_streams_are_written() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz/seeds/framing");
    std::fs::create_dir_all(&folder).unwrap();
    let messages = [fixture("ipfix"), ipfix(0).bytes(), fixture("ipfix with strings")].concat();
    let long = ipfix(1).data(256, &[vec![7; 3_000]]).bytes();
    for (name, pieces, stream) in [
        ("at-once", &[0, 255][..], messages.clone()),
        ("byte-by-byte", &[0, 0], messages.clone()),
        ("pieces", &[2, 3, 60, 129], messages.repeat(2)),
        ("long", &[1, 130, 5], long.repeat(2)),
        ("cut-short", &[0, 20], messages[..messages.len() - 7].to_vec()),
        ("other-version", &[0, 90], [&messages[..], &fixture("v9")].concat()),
        ("too-short", &[0, 90], [&messages[..], &[0, 10, 0, 15, 0]].concat()),
        ("text", &[0, 8], b"GET / HTTP/1.1\r\n\r\n".to_vec()),
    ] {
        std::fs::write(folder.join(name), [pieces, &stream].concat()).unwrap();
    }
}
