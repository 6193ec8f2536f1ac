//! The texts that a number was sent lately, for whoever has to tell which of them it answers.

use std::sync::Arc;

use super::Queue;
use super::detail::Trail;
use super::entry::fingerprint_of_text;
use super::hot::{Detail, Warm};
use crate::model::{Class, ClientName, Content, MessageId, Number, SenderId};

/// A text as far as it is known.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct TextTo {
    /// Its id.
    pub id: MessageId,
    /// Who submitted it.
    pub client: ClientName,
    /// Its class.
    pub class: Class,
    /// The sender that it names.
    pub from: Option<SenderId>,
    /// The carrier that has some of it; `None` if none has.
    pub carrier: Option<Arc<str>>,
    /// The signature at its head; `None` also if its words are not on disk any more.
    pub signature: Option<Arc<str>>,
}

impl Queue {
    /// Texts to a number that wait, await their receipts or have ended lately, newest first, at most `most`; of those on the shelf
    /// the newest. Looks at every entry: see to it that it is asked seldom.
    pub async fn texts_to(&self, number: &Number, most: usize) -> Vec<TextTo> {
        let mut texts = Vec::new();
        for id in self.ids_to(fingerprint_of_text(number.as_str()), most).await {
            texts.extend(self.text_to(id).await);
        }
        if let Ok(Some(text)) = self.to_on_shelf(number.as_str()).await {
            texts.extend(told(text.detail.envelope.id, &text.detail, None));
        }
        texts.sort_by_key(|text| std::cmp::Reverse(text.id));
        texts.truncate(most);
        texts
    }

    async fn text_to(&self, id: MessageId) -> Option<TextTo> {
        let both = |warm: &Warm| (warm.detail.clone(), warm.content.clone());
        let (detail, content) = match self.look_up(id, both, Trail::whole).await {
            Ok(Some((detail, content))) => (detail, Some(content)),
            // It may have ended: then its words are gone.
            Ok(None) | Err(_) => {
                let ended = self.shared.table.lock().history.find(id).cloned();
                (ended?.detail()?, None)
            }
        };
        told(id, &detail, content.as_ref())
    }
}

fn told(id: MessageId, detail: &Detail, content: Option<&Content>) -> Option<TextTo> {
    let from = detail.envelope.text()?.from.clone();
    let signature = match content {
        Some(Content::Text(text)) => crate::sms::signature(text.as_str()).map(Arc::from),
        _ => None,
    };
    let progress = detail.lives.iter().find_map(|life| life.progress.as_ref());
    let (client, class) = (detail.envelope.client.clone(), detail.envelope.class);
    Some(TextTo { id, client, class, from, carrier: progress.map(|p| p.carrier.clone()), signature })
}
