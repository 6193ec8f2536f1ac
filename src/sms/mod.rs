//! Text content: alphabets, parts and receipts. Pure.
//!
//! **What.** [`plan`] says how a text will travel (for prices and previews), [`parts`] makes the octets that travel,
//! [`transliterate`] writes a text so that it takes less room, [`reassemble`], [`join`], [`words`] and [`receipt`] read what comes
//! back, and [`Template`] knows registered texts again.
//!
//! **Promises.** No character is lost: a text that the GSM alphabet cannot hold, nor its tables for the languages that a carrier shows,
//! goes as UCS-2. Neither an escape pair nor
//! a surrogate pair is cut. `plan` and `parts` always agree on the number of parts.
//!
//! **Does not know** carriers, PDUs or sockets; only the numbers that every protocol shares (data coding, UDH).
//!
//! **Fails how.** Sending cannot fail: [`SmsText`](crate::model::SmsText) bounds the length. Reading returns `None`.

mod chinese;
pub mod gsm7;
pub mod join;
mod national;
mod parts;
mod reassemble;
pub mod receipt;
mod template;
mod transliterate;
mod words;

pub use chinese::{half_width, signature, signature_and_rest, split_signature};
pub use national::{Language, Shift};
pub use parts::{Encoding, Parts, Plan, Repertoire, parts, parts_for, plan, plan_for};
pub use reassemble::{Concatenation, decode, decode_part, hex, is_only_concatenation, octets, split_header};
pub use template::{Misfit, Template, TemplateError};
pub use transliterate::{look_alike, transliterate};
pub use words::{Alphabet, gbk_of, is_gbk};
