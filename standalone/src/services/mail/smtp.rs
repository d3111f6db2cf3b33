//! The part of SMTP that mail libraries speak to a server in their own house: no encryption, no login.

use std::{io, sync::Arc, time::Duration};

use tokio::{
    io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader},
    net::{TcpListener, TcpStream},
    task::JoinSet,
    time::timeout,
};

use super::{super::http::ACCEPT_PAUSE, received::Mail, store::Store};

/// The largest mail taken, in bytes.
const MAX_MAIL: usize = 25 << 20;
/// The longest line taken, in bytes; longer ones are refused by closing the connection.
const MAX_LINE: u64 = 1 << 20;
const IDLE: Duration = Duration::from_secs(300);

pub(super) async fn serve(listener: TcpListener, store: Arc<Store>) {
    let mut sessions = JoinSet::new();
    loop {
        let accepted = listener.accept().await;
        while sessions.try_join_next().is_some() {}
        let Ok((socket, _)) = accepted else {
            tokio::time::sleep(ACCEPT_PAUSE).await;
            continue;
        };
        let store = Arc::clone(&store);
        sessions.spawn(async move {
            // A session that breaks off concerns only its client.
            let _ = Session::new(socket).run(&store).await;
        });
    }
}

struct Session {
    connection: BufReader<TcpStream>,
    mail: Mail,
}

/// What a client says, as far as it matters here.
enum Command {
    Hello,
    From(String),
    To(String),
    Data,
    Reset,
    Quit,
    Other,
}

impl Session {
    fn new(socket: TcpStream) -> Self {
        Self { connection: BufReader::new(socket), mail: Mail::default() }
    }

    async fn run(mut self, store: &Store) -> io::Result<()> {
        self.say("220 mail sink").await?;
        while let Some(line) = self.line().await? {
            match Command::parse(&String::from_utf8_lossy(&line)) {
                Command::Hello => {
                    let size = format!("250-SIZE {MAX_MAIL}");
                    let lines = ["250-mail sink", "250-8BITMIME", "250-SMTPUTF8", &size, "250 PIPELINING"];
                    self.say(&lines.join("\r\n")).await?;
                }
                Command::From(from) => {
                    self.mail = Mail { from, ..Mail::default() };
                    self.say("250 ok").await?;
                }
                Command::To(to) if to.starts_with("bounce@") => self.say("550 5.1.1 no such mailbox").await?,
                Command::To(to) if to.starts_with("later@") && store.puts_off(&to) => {
                    self.say("450 4.2.0 greylisted, try again").await?;
                }
                Command::To(to) => {
                    self.mail.to.push(to);
                    self.say("250 ok").await?;
                }
                Command::Data if self.mail.to.is_empty() => self.say("503 5.5.1 name a recipient first").await?,
                Command::Data => self.receive(store).await?,
                Command::Reset => {
                    self.mail = Mail::default();
                    self.say("250 ok").await?;
                }
                Command::Quit => return self.say("221 bye").await,
                Command::Other => self.say("250 ok").await?,
            }
        }
        Ok(())
    }

    async fn receive(&mut self, store: &Store) -> io::Result<()> {
        self.say("354 end with a dot on a line of its own").await?;
        let mut data = Vec::new();
        let mut too_large = false;
        loop {
            let Some(line) = self.line().await? else {
                return Ok(()); // broken off: not a mail
            };
            if line == b".\r\n" {
                break;
            }
            too_large |= data.len() + line.len() > MAX_MAIL;
            if !too_large {
                data.extend_from_slice(line.strip_prefix(b".").unwrap_or(&line));
            }
        }
        let mut mail = std::mem::take(&mut self.mail);
        if too_large {
            return self.say("552 5.3.4 the mail is too large").await;
        }
        mail.data = String::from_utf8_lossy(&data).into_owned();
        match store.keep(mail) {
            Ok(()) => {
                store.answers().await;
                self.say("250 kept").await
            }
            Err(_) => self.say("451 4.3.0 the mail could not be written").await,
        }
    }

    async fn say(&mut self, answer: &str) -> io::Result<()> {
        self.connection.get_mut().write_all(format!("{answer}\r\n").as_bytes()).await
    }

    /// The next line with its end, or `None` when the client is gone.
    async fn line(&mut self) -> io::Result<Option<Vec<u8>>> {
        // Only speed depends on it, so a refusal does not matter.
        let _ = guard::acknowledge_at_once(self.connection.get_ref());
        let mut line = Vec::new();
        let mut limited = (&mut self.connection).take(MAX_LINE);
        let read = timeout(IDLE, limited.read_until(b'\n', &mut line)).await??;
        if read > 0 && !line.ends_with(b"\n") {
            return Err(io::Error::new(io::ErrorKind::InvalidData, "a line without an end"));
        }
        Ok((read > 0).then_some(line))
    }
}

impl Command {
    fn parse(line: &str) -> Self {
        let upper = line.trim().to_ascii_uppercase();
        let address = || {
            let inside = line.split_once('<').and_then(|(_, rest)| rest.split_once('>'));
            inside.map(|(address, _)| address.to_owned()).unwrap_or_default()
        };
        match upper.split([' ', ':']).next().unwrap_or_default() {
            "EHLO" | "HELO" => Self::Hello,
            "MAIL" => Self::From(address()),
            "RCPT" => Self::To(address()),
            "DATA" => Self::Data,
            "RSET" => Self::Reset,
            "QUIT" => Self::Quit,
            _ => Self::Other,
        }
    }
}
