//! What the configuration says about exporters reaches the catalogue and the answers.

use crate::support::server::TestServer;
use crate::support::traffic;

#[test]
fn a_configured_name_wins_over_the_one_in_the_database_when_the_exporter_comes_and_at_each_start() {
    let mut server = TestServer::with(&[("EXPORTER", r#"[{address="127.0.0.0/8",name="lab"}]"#)]);
    traffic::send(server.collector(), "v5", 30, 0, 1);
    server.wait_for_flows(30);
    let name = |server: &TestServer| server.json("/api/v1/exporters")["exporters"][0]["name"].clone();
    assert_eq!(name(&server), "lab");
    server.terminate();
    server.set("EXPORTER", r#"[{address="127.0.0.0/8",name="lab"},{address="127.0.0.1",name="Straße 7"}]"#);
    server.launch();
    assert_eq!(name(&server), "Straße 7");
    // Nothing configured leaves the name as it is.
    server.terminate();
    server.set("EXPORTER", "[]");
    server.launch();
    assert_eq!(name(&server), "Straße 7");
}
