//! Mails against a server made of a script: what is said on the wire, and what each reply means.

use super::*;
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader};
use tokio::net::TcpListener;
use tokio::task::JoinHandle;

fn settings(port: u16) -> Settings {
    Settings {
        host: "127.0.0.1".to_owned(),
        port,
        security: "none".to_owned(),
        from: "Flowledger <flowledger@example.org>".to_owned(),
        timeout_seconds: 2,
        ..Settings::default()
    }
}

fn document() -> Document {
    Document {
        name: "weekly_2026-W47".to_owned(),
        csv: "rank,dst_ip\n.\n1,10.0.0.7\n".to_owned(),
        manifest: "{}\n".to_owned(),
        summary: "Report weekly\n.\nQUIT\n".to_owned(),
        rows: 1,
    }
}

/// Serves one mail; the reply to the command that begins with `odd` is `reply`, or silence when that is empty, and
/// `(greeting)` stands for the connection. Returns what the client said.
async fn server(odd: &'static str, reply: &'static str) -> (u16, JoinHandle<String>) {
    scripted(&[(odd, reply)]).await
}

/// The same with several odd replies.
async fn scripted(script: &[(&'static str, &'static str)]) -> (u16, JoinHandle<String>) {
    let script = script.to_vec();
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let task = tokio::spawn(async move {
        let (stream, _) = listener.accept().await.unwrap();
        let mut stream = BufReader::new(stream);
        let odd = |line: &str| script.iter().find(|(odd, _)| line.starts_with(odd)).map(|(_, reply)| *reply);
        if odd("(greeting)").is_none() {
            stream.write_all(b"220 test\r\n").await.unwrap();
        }
        let (mut said, mut data) = (String::new(), false);
        loop {
            let mut line = Vec::new();
            if stream.read_until(b'\n', &mut line).await.unwrap_or(0) == 0 {
                return said;
            }
            let line = String::from_utf8_lossy(&line).into_owned();
            said.push_str(&line);
            let usual = match line.as_str() {
                ".\r\n" if data => {
                    data = false;
                    "250 queued"
                }
                _ if data => continue,
                "DATA\r\n" => {
                    data = odd("DATA").is_none();
                    "354 go"
                }
                "QUIT\r\n" => "221 bye",
                line if line.starts_with("EHLO") => "250-test\r\n250 AUTH PLAIN",
                _ => "250 ok",
            };
            let answer = odd(&line).unwrap_or(usual);
            if !answer.is_empty() {
                stream.write_all(format!("{answer}\r\n").as_bytes()).await.unwrap();
            }
        }
    });
    (port, task)
}

async fn send(settings: &Settings) -> Result<(), Failure> {
    let mailer = Mailer::new(settings).unwrap().unwrap();
    let to = Recipient::parse("Net Team <net@example.org>").unwrap();
    mailer.send(&document(), &to, Uuid::from_u128(7), Timestamp::from_micros(1_795_392_000_000_000)).await
}

#[tokio::test]
async fn the_mail_has_text_and_attachment_in_base64_and_nothing_ends_it_early() {
    let (port, task) = server("nothing", "").await;
    send(&settings(port)).await.unwrap();
    let said = task.await.unwrap();
    assert!(said.contains("MAIL FROM:<flowledger@example.org>"), "{said}");
    assert_eq!(said.matches("RCPT TO:").count(), 1, "{said}");
    assert!(said.contains("RCPT TO:<net@example.org>"), "{said}");
    assert_eq!(said.matches("\r\n.\r\n").count(), 1, "{said}");
    assert!(said.contains("Message-ID: <00000000-0000-0000-0000-000000000007@example.org>\r\n"), "{said}");
    assert!(said.contains("Subject: Flowledger report weekly_2026-W47\r\n"), "{said}");
    assert!(said.contains("Date: Mon, 23 Nov 2026 00:00:00 +0000\r\n"), "{said}");
    assert_eq!(said.matches("Content-Transfer-Encoding: base64\r\n").count(), 3, "{said}");
    assert!(said.contains("Content-Type: text/csv; charset=utf-8\r\n"), "{said}");
    assert!(said.contains("filename=\"weekly_2026-W47.csv\""), "{said}");
    assert!(said.contains("Content-Type: application/json\r\n"), "{said}");
    assert!(said.contains("filename=\"weekly_2026-W47.json\""), "{said}");
    // printf 'rank,dst_ip\n.\n1,10.0.0.7\n' | base64
    assert!(said.contains("cmFuayxkc3RfaXAKLgoxLDEwLjAuMC43Cg=="), "{said}");
}

#[tokio::test]
async fn five_hundreds_are_final_and_everything_else_may_pass() {
    for (odd, reply, passing) in [
        ("RCPT", "550 5.1.1 no such user", false),
        ("MAIL", "553 5.7.1 not you", false),
        (".", "554 5.6.0 refused", false),
        ("RCPT", "450 4.2.1 greylisted", true),
        ("DATA", "421 4.3.2 closing", true),
        ("DATA", "", true),
        ("RCPT", "", true),
    ] {
        let (port, _task) = server(odd, reply).await;
        let settings = Settings { timeout_seconds: 1, ..settings(port) };
        let failure = send(&settings).await.unwrap_err();
        assert_eq!(matches!(failure, Failure::Temporary(_)), passing, "{odd} {reply}: {failure:?}");
        let (Failure::Temporary(error) | Failure::Permanent(error)) = failure;
        assert!(error.to_string().contains("net@example.org"), "{error}");
    }
    // Nobody listens on port 1.
    assert!(matches!(send(&settings(1)).await, Err(Failure::Temporary(_))));
}

#[tokio::test]
async fn a_server_that_falls_silent_is_tried_again_unless_it_has_the_mail() {
    for odd in ["(greeting)", "EHLO", "AUTH", "MAIL", "RCPT", "DATA", "."] {
        let (port, _task) = server(odd, "").await;
        let settings =
            Settings { timeout_seconds: 1, username: "user".to_owned(), password: "secret".into(), ..settings(port) };
        let failure = send(&settings).await.unwrap_err();
        assert!(matches!(failure, Failure::Temporary(_)), "{odd}: {failure:?}");
    }
    let (port, task) = server("QUIT", "").await;
    send(&settings(port)).await.unwrap();
    assert!(task.await.unwrap().ends_with("\r\n.\r\nQUIT\r\n"));
}

#[tokio::test]
async fn a_refusal_is_final_although_the_server_falls_silent_after_it() {
    for (odd, reply) in [("MAIL", "553 not you"), ("RCPT", "550 no such user"), ("DATA", "554 no"), (".", "554 spam")] {
        let (port, task) = scripted(&[(odd, reply), ("QUIT", "")]).await;
        let settings = Settings { timeout_seconds: 1, ..settings(port) };
        let failure = send(&settings).await.unwrap_err();
        assert!(matches!(failure, Failure::Permanent(_)), "{odd}: {failure:?}");
        assert!(task.await.unwrap().ends_with("QUIT\r\n"), "{odd}");
    }
}

#[tokio::test]
async fn an_address_that_the_server_cannot_carry_gets_no_mail() {
    for (features, passes) in
        [("250-test\r\n250 AUTH PLAIN", false), ("250-test\r\n250-8BITMIME\r\n250 SMTPUTF8", true)]
    {
        let (port, task) = server("EHLO", features).await;
        let mailer = Mailer::new(&settings(port)).unwrap().unwrap();
        let to = Recipient::parse("büro@example.org").unwrap();
        let sent = mailer.send(&document(), &to, Uuid::from_u128(7), Timestamp::from_micros(0)).await;
        assert_eq!(sent.is_ok(), passes, "{sent:?}");
        assert!(passes || matches!(sent, Err(Failure::Temporary(_))), "{sent:?}");
        let said = task.await.unwrap();
        assert_eq!(said.contains("MAIL FROM:<flowledger@example.org> SMTPUTF8"), passes, "{said}");
    }
}

#[tokio::test]
async fn a_refused_login_may_pass_because_people_mend_it() {
    let (port, task) = server("AUTH", "535 5.7.8 wrong").await;
    let root = tempfile::tempdir().unwrap();
    let file = root.path().join("password");
    std::fs::write(&file, "s3cret\n").unwrap();
    let settings = Settings { username: "user".to_owned(), password_file: Some(file), ..settings(port) };
    assert!(matches!(send(&settings).await, Err(Failure::Temporary(_))));
    // printf '\0user\0s3cret' | base64
    assert!(task.await.unwrap().contains("AUTH PLAIN AHVzZXIAczNjcmV0"));
}

#[tokio::test]
async fn encryption_is_never_only_tried() {
    let offers = ("EHLO", "250-test\r\n250-STARTTLS\r\n250 AUTH PLAIN");
    // Without STARTTLS; refusing it; taking it without any encryption; silent where TLS was to begin; and in clear.
    let cases: [(&str, &[(&str, &str)]); 5] = [
        ("starttls", &[]),
        ("starttls", &[offers, ("STARTTLS", "454 4.7.0 not now")]),
        ("starttls", &[offers, ("STARTTLS", "220 go\r\n250-test\r\n250 AUTH PLAIN")]),
        ("starttls", &[offers, ("STARTTLS", "220 go")]),
        ("tls", &[]),
    ];
    for (security, script) in cases {
        let (port, task) = scripted(script).await;
        let settings = Settings {
            security: security.to_owned(),
            timeout_seconds: 1,
            username: "user".to_owned(),
            password: "secret".into(),
            ..settings(port)
        };
        let failure = send(&settings).await.unwrap_err();
        assert!(matches!(failure, Failure::Temporary(_)), "{security} {script:?}: {failure:?}");
        let said = task.await.unwrap();
        assert_eq!(said.matches("EHLO").count(), usize::from(security == "starttls"), "{script:?}: {said}");
        assert!(!said.contains("AUTH") && !said.contains("MAIL"), "{script:?}: {said}");
    }
    assert_eq!(Settings::default().security, "starttls");
}

#[test]
fn recipients_fit_in_one_line_and_are_one_address() {
    for text in
        ["a@example.org", "Net Team <net@example.org>", "\"Team, Net\" <net@example.org>", "Büro <b@example.org>"]
    {
        assert!(Recipient::parse(text).is_ok(), "{text}");
    }
    for text in [
        "",
        "nobody",
        "a@example.org\r\nBcc: b@example.org",
        "a\n <a@example.org>",
        "a@example.org, b@example.org",
        "a@example.org b@example.org",
        "A <a@example.org> <b@example.org>",
        "a@example.org\0",
    ] {
        assert!(Recipient::parse(text).is_err(), "{text:?}");
    }
}

#[test]
fn wrong_settings_name_their_key_and_passwords_stay_hidden() {
    type Change = fn(&mut Settings);
    let cases: [(&str, Change); 4] = [
        ("from", |it| it.from = String::new()),
        ("security", |it| it.security = "ssl".to_owned()),
        ("timeout_seconds", |it| it.timeout_seconds = 0),
        ("password_file", |it| {
            it.username = "user".to_owned();
            it.password_file = Some("/nonexistent/password".into());
        }),
    ];
    for (key, change) in cases {
        let mut settings = settings(25);
        change(&mut settings);
        let error = Mailer::new(&settings).unwrap_err().to_string();
        assert!(error.starts_with(&format!("[smtp] {key}: ")), "{error}");
    }
    assert!(Mailer::new(&Settings::default()).unwrap().is_none());
    let settings = Settings { username: "user".to_owned(), password: Secret::from("s3cret"), ..settings(25) };
    let mailer = Mailer::new(&settings).unwrap();
    let shown = format!("{settings:?} {mailer:?} {}", serde_json::to_string(&settings).unwrap());
    assert!(!shown.contains("s3cret") && shown.contains("***"), "{shown}");
}
