//! The generator against scripted peers on real sockets.

use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::{TcpListener, TcpStream};

use super::*;

/// What a scripted SMTP server answers.
#[derive(Clone, Copy)]
struct Script {
    ehlo: &'static str,
    rcpt: &'static str,
    end_of_data: &'static str,
    /// Closes without an answer to this message of a connection, counted from 1.
    vanish_at: usize,
}

const AGREEABLE: Script = Script {
    ehlo: "250-sink\r\n250 PIPELINING\r\n",
    rcpt: "250 ok\r\n",
    end_of_data: "250 2.0.0 taken\r\n",
    vanish_at: usize::MAX,
};

/// Serves the script on a port of its own; sends on every message's content.
async fn smtp_server(script: Script) -> (String, tokio::sync::mpsc::Receiver<String>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap().to_string();
    let (contents, received) = tokio::sync::mpsc::channel(10_000);
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            tokio::spawn(smtp_connection(stream, script, contents.clone()));
        }
    });
    (address, received)
}

async fn smtp_connection(stream: TcpStream, script: Script, contents: tokio::sync::mpsc::Sender<String>) {
    stream.set_nodelay(true).unwrap();
    let mut stream = BufReader::new(stream);
    stream.write_all(b"220 sink\r\n").await.unwrap();
    let (mut line, mut messages) = (String::new(), 0);
    loop {
        line.clear();
        if stream.read_line(&mut line).await.unwrap_or(0) == 0 {
            return;
        }
        let answer = match line.trim_end().split([' ', ':']).next().unwrap_or_default() {
            "EHLO" => script.ehlo,
            "RCPT" => script.rcpt,
            "DATA" => {
                stream.write_all(b"354 go\r\n").await.unwrap();
                let mut content = String::new();
                while !content.ends_with("\r\n.\r\n") && content != ".\r\n" {
                    stream.read_line(&mut content).await.unwrap();
                }
                messages += 1;
                contents.send(content).await.unwrap();
                if messages == script.vanish_at {
                    return;
                }
                script.end_of_data
            }
            "QUIT" => "221 bye\r\n",
            _ => "250 ok\r\n",
        };
        stream.write_all(answer.as_bytes()).await.unwrap();
    }
}

fn options(address: String, messages: u64) -> Options {
    Options {
        address,
        connections: 4,
        amount: Amount::Messages(messages),
        reply_timeout: Duration::from_secs(5),
        ..Options::default()
    }
}

#[tokio::test]
async fn every_message_arrives_once_over_reused_connections() {
    for ehlo in ["250-sink\r\n250 PIPELINING\r\n", "250 sink\r\n"] {
        let (address, mut received) = smtp_server(Script { ehlo, ..AGREEABLE }).await;
        let report = run(options(address, 500), Progress::Silent).await.unwrap();
        assert!(report.all_accepted(), "{report}");
        assert_eq!((report.accepted, report.connections_made), (500, 4));
        assert!(report.latency_ms.p50 <= report.latency_ms.p99 && report.latency_ms.p99 <= report.latency_ms.max);
        let mut ids = std::collections::BTreeSet::new();
        received.close();
        while let Some(content) = received.recv().await {
            assert!((4_095..=4_096).contains(&(content.len() - ".\r\n".len())));
            let id = content.lines().find_map(|l| l.strip_prefix("Message-ID: <")).unwrap();
            assert!(ids.insert(id.trim_end_matches('>').to_owned()));
        }
        assert_eq!(ids.len(), 500);
        assert!(ids.contains(&format!("0000000499.{}@load.example", report.run)));
    }
}

#[tokio::test]
async fn refusals_are_counted_by_code_and_the_connection_goes_on() {
    for script in [
        Script { end_of_data: "452 4.3.1 full\r\n", ..AGREEABLE },
        Script { rcpt: "452 4.3.1 full\r\n", ..AGREEABLE },
        Script { rcpt: "452 4.3.1 full\r\n", ehlo: "250 sink\r\n", ..AGREEABLE },
    ] {
        let (address, _received) = smtp_server(script).await;
        let report = run(options(address, 20), Progress::Silent).await.unwrap();
        assert_eq!((report.accepted, report.refused, report.connections_made), (0, 20, 4));
        assert_eq!(report.failures["452"], FailureCount { count: 20, example: "4.3.1 full".to_owned() });
        assert!(!report.all_accepted());
    }
}

#[tokio::test]
async fn a_connection_that_breaks_after_data_leaves_one_message_unanswered() {
    let (address, _received) = smtp_server(Script { vanish_at: 3, ..AGREEABLE }).await;
    let report = run(options(address, 100), Progress::Silent).await.unwrap();
    assert_eq!(report.attempted, 100);
    assert_eq!(report.accepted + report.unanswered, 100, "{report}");
    assert_eq!(report.failures["closed"].count, report.unanswered);
    assert!(report.unanswered >= 32 && report.connections_made >= 33, "{report}");
}

#[tokio::test]
async fn nobody_listening_ends_the_run() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap().to_string();
    drop(listener);
    let options = Options { connect_failures_max: 3, ..options(address, 100) };
    let report = run(options, Progress::Silent).await.unwrap();
    assert_eq!((report.attempted, report.accepted), (0, 0));
    assert_eq!(report.failures["connect"].count, 12);
}

#[tokio::test]
async fn stopping_ends_a_run_without_end() {
    let (address, mut received) = smtp_server(AGREEABLE).await;
    let endless = Options { amount: Amount::For(Duration::from_secs(3_600)), ..options(address, 0) };
    let after_ten = async move {
        for _ in 0..10 {
            received.recv().await.unwrap();
        }
        // The rest must still find a reader.
        tokio::spawn(async move { while received.recv().await.is_some() {} });
    };
    let report = run_until(endless, Progress::Silent, after_ten).await.unwrap();
    assert!(report.accepted >= 7, "{report}");
    assert_eq!(report.accepted, report.attempted);
}

#[tokio::test]
async fn a_rate_is_kept() {
    let (address, _received) = smtp_server(AGREEABLE).await;
    let report = run(Options { rate: Some(200.0), ..options(address, 41) }, Progress::Silent).await.unwrap();
    // The 41st slot is 200 ms after the first.
    assert!(report.all_accepted() && report.elapsed_s >= 0.2, "{report}");
}

#[tokio::test]
async fn options_out_of_range_are_refused() {
    for wrong in [
        Options { connections: 0, ..Options::default() },
        Options { recipient_domains: vec![], ..Options::default() },
        Options { recipients_per_message: 0, ..Options::default() },
        Options { rate: Some(0.0), ..Options::default() },
        Options { message_bytes: usize::MAX, ..Options::default() },
    ] {
        assert!(matches!(run(wrong, Progress::Silent).await, Err(LoadError::Option(_))));
    }
}

#[tokio::test]
async fn texts_are_posted_over_kept_connections() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap().to_string();
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            tokio::spawn(http_connection(stream));
        }
    });
    let http = HttpOptions { post: Post::Text, api_key: Some(Secret::new("k1")), tls: false };
    let options = Options { protocol: Protocol::Http(http), message_bytes: 60, ..options(address, 101) };
    let report = run(options, Progress::Silent).await.unwrap();
    assert_eq!((report.accepted, report.refused, report.unanswered), (100, 1, 0), "{report}");
    assert_eq!(report.failures["429"].count, 1);
}

/// Takes every text but number 50; checks what it is asked.
async fn http_connection(stream: TcpStream) {
    let mut stream = BufReader::new(stream);
    loop {
        let (mut length, mut line, mut head) = (0, String::new(), String::new());
        while line != "\r\n" {
            line.clear();
            if stream.read_line(&mut line).await.unwrap_or(0) == 0 {
                return;
            }
            if let Some(value) = line.strip_prefix("Content-Length: ") {
                length = value.trim().parse().unwrap();
            }
            head.push_str(&line);
        }
        assert!(head.starts_with("POST /v1/sms HTTP/1.1\r\n") && head.contains("Authorization: Bearer k1\r\n"));
        let mut body = vec![0; length];
        stream.read_exact(&mut body).await.unwrap();
        let text: serde_json::Value = serde_json::from_slice(&body).unwrap();
        let answer = if text["to"] == "+8613800000050" {
            "HTTP/1.1 429 Too Many Requests\r\ncontent-length: 0\r\n\r\n"
        } else {
            "HTTP/1.1 202 Accepted\r\ncontent-length: 2\r\n\r\n{}"
        };
        stream.write_all(answer.as_bytes()).await.unwrap();
    }
}
