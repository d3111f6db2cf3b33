//! What is passed on of an answer while it comes: everything before the first stop sequence, as soon as it is certain.

use super::{Finish, LlmError, Permit, Providers, Request, Said};
use shared::llm::Served;
use tokio::sync::mpsc;

/// Pieces that may wait between a provider and whoever listens.
const WAITING: usize = 64;

/// Passes the answer of one call on.
pub(super) struct Relay {
    stop: Vec<String>,
    tokens: Option<mpsc::Sender<String>>,
    passed: bool,
}

impl Relay {
    pub(super) fn new(stop: &[String], tokens: Option<mpsc::Sender<String>>) -> Self {
        let stop = stop.iter().filter(|stop| !stop.is_empty()).cloned().collect();
        Self { stop, tokens, passed: false }
    }

    /// Whether anything was passed on: then no other answer may follow it.
    pub(super) const fn has_passed(&self) -> bool {
        self.passed
    }

    /// Whether whoever was to hear the answer has gone: then it is given up, and not asked for again.
    pub(super) fn is_deserted(&self) -> bool {
        self.tokens.as_ref().is_some_and(mpsc::Sender::is_closed)
    }

    /// Sends a call and passes its answer on; the answer returned ends before the first stop sequence, whether the model
    /// knows of them or not, and is the text that was passed on.
    pub(super) async fn send(
        &mut self,
        providers: &Providers,
        permit: Permit,
        served: Served<'_>,
        request: &Request,
    ) -> Result<Said, LlmError> {
        let Some(tokens) = self.tokens.clone() else {
            let said = providers.send(permit, served, request, None).await?;
            return Ok(self.cut(said));
        };
        let (sender, mut pieces) = mpsc::channel::<String>(WAITING);
        let mut text = Cutter::new(&self.stop);
        let passed = &mut self.passed;
        let pass_on = async {
            while let Some(piece) = pieces.recv().await {
                let certain = text.add(&printable(&piece));
                if !certain.is_empty() {
                    *passed = true;
                    if tokens.send(certain).await.is_err() {
                        // nobody listens: with `pieces` the call is given up
                        break;
                    }
                }
            }
            pieces.close();
        };
        let (said, ()) = tokio::join!(providers.send(permit, served, request, Some(sender)), pass_on);
        let said = self.cut(said?);
        let rest = text.rest();
        if !rest.is_empty() {
            self.passed = true;
            // whoever listened may have gone at the last moment; the answer is whole
            let _ = tokens.send(rest).await;
        }
        Ok(said)
    }

    fn cut(&self, said: Said) -> Said {
        let text = printable(&said.text);
        match first(&text, &self.stop) {
            Some(end) => Said { text: text[..end].to_owned(), finish: Finish::Stop, ..said },
            None => Said { text, ..said },
        }
    }
}

/// Postgres stores no zero character; it is replaced here, so that what is stored is what was passed on.
fn printable(text: &str) -> String {
    text.replace('\0', "\u{fffd}")
}

/// Where the first stop sequence begins.
fn first(text: &str, stop: &[String]) -> Option<usize> {
    stop.iter().filter_map(|stop| text.find(stop.as_str())).min()
}

/// Holds back what may be the beginning of a stop sequence.
struct Cutter<'a> {
    stop: &'a [String],
    held: String,
    ended: bool,
}

impl<'a> Cutter<'a> {
    const fn new(stop: &'a [String]) -> Self {
        Self { stop, held: String::new(), ended: false }
    }

    /// Takes a piece, and returns what is certain to belong to the answer.
    fn add(&mut self, piece: &str) -> String {
        if self.ended {
            return String::new();
        }
        self.held.push_str(piece);
        if let Some(end) = first(&self.held, self.stop) {
            self.ended = true;
            self.held.truncate(end);
            return std::mem::take(&mut self.held);
        }
        let open = self.stop.iter().map(|stop| beginning_at_end(&self.held, stop)).max().unwrap_or(0);
        let waiting = self.held.split_off(self.held.len() - open);
        std::mem::replace(&mut self.held, waiting)
    }

    /// What was held back and turned out to be no stop sequence.
    fn rest(self) -> String {
        if self.ended { String::new() } else { self.held }
    }
}

/// The length of the longest end of `text` that is a beginning of `stop`, but not all of it.
fn beginning_at_end(text: &str, stop: &str) -> usize {
    let beginnings = stop.char_indices().map(|(at, _)| at).filter(|at| *at > 0);
    beginnings.filter(|at| text.ends_with(&stop[..*at])).max().unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn cut(pieces: &[&str], stop: &[&str]) -> Vec<String> {
        let stop: Vec<_> = stop.iter().map(|stop| (*stop).to_owned()).collect();
        let mut cutter = Cutter::new(&stop);
        let mut passed: Vec<_> = pieces.iter().map(|piece| cutter.add(piece)).collect();
        passed.push(cutter.rest());
        passed
    }

    #[test]
    fn an_answer_is_deserted_only_when_its_listener_has_gone() {
        let (sender, pieces) = mpsc::channel(1);
        let relay = Relay::new(&[], Some(sender));
        assert!(!relay.is_deserted());
        drop(pieces);
        assert!(relay.is_deserted());
        assert!(!Relay::new(&[], None).is_deserted(), "nobody was to hear it");
    }

    #[test]
    fn pieces_pass_at_once_where_no_stop_sequence_can_begin() {
        assert_eq!(cut(&["one ", "two"], &[]), ["one ", "two", ""]);
        assert_eq!(cut(&["one ", "two"], &["END"]), ["one ", "two", ""]);
    }

    #[test]
    fn a_possible_beginning_is_held_back_until_it_is_certain() {
        assert_eq!(cut(&["one E", "N", "two"], &["END"]), ["one ", "", "ENtwo", ""]);
        assert_eq!(cut(&["one E", "N", "D two", " three"], &["END"]), ["one ", "", "", "", ""]);
        assert_eq!(cut(&["one EN"], &["END"]), ["one ", "EN"]);
        assert_eq!(cut(&["aab"], &["ab"]), ["a", ""]);
        assert_eq!(cut(&["a\n", "\nb"], &["\n\n", "b"]), ["a", "", ""]);
    }

    #[test]
    fn the_earliest_stop_sequence_counts_and_letters_stay_whole() {
        assert_eq!(cut(&["xbya"], &["a", "b"]), ["x", ""]);
        assert_eq!(cut(&["é", "à"], &["éa"]), ["", "éà", ""]);
        assert_eq!(first("one END", &["END".to_owned()]), Some(4));
    }
}
