// An independent SMPP carrier (npm `smpp`): says on standard output, one JSON object a line, what it was sent.
//
// Usage: smpp_server.js PORT [CERTIFICATE KEY]   (0: any; the first line printed is {"listening": PORT}; with files, inside TLS)
//
// Parts are printed as {"pdu":"submit_sm", "to", "from", "data_coding", "esm_class", "udh": HEX, "text", "status", "id", "tlvs", "at_ms"};
// receipts' answers as {"pdu":"deliver_sm_resp", "id", "status"}. Lines on standard input steer it:
// {"throttle": 5} answers the next five submit_sm ESME_RTHROTTLED, {"receipts": "DELIVRD"} sends such receipts at once from
// now on, also for the parts taken before; {"receipts": null} sends none. {"deliver": {"source_addr", …, "message", "udh": HEX}} sends a
// handset's message with these fields at once; {"data_coding_0": "LATIN1"} takes data_coding 0 for that; its answer is printed as {"pdu":"deliver_sm_resp", "id": "handset", "status"}.
'use strict';
const fs = require('fs');
const readline = require('readline');
const smpp = require('smpp');

const state = { throttle: 0, receipts: null, taken: 0, owed: [], session: null };
const tell = (what) => process.stdout.write(JSON.stringify(what) + '\n');

function receipt(session, part) {
  const date = '2611230624';
  const text = `id:${part.id} sub:001 dlvrd:001 submit date:${date} done date:${date} stat:${state.receipts} err:000 text:`;
  session.deliver_sm({
    esm_class: 0x04, source_addr: part.to, destination_addr: part.from, short_message: text,
    receipted_message_id: part.id, message_state: state.receipts === 'DELIVRD' ? 2 : 5,
  }, (answer) => tell({ pdu: 'deliver_sm_resp', id: part.id, status: answer.command_status }));
}

function deliver({ message, udh, ...fields }) {
  const content = udh ? { udh: Buffer.from(udh, 'hex'), message } : message;
  state.session.deliver_sm({ ...fields, short_message: content },
    (answer) => tell({ pdu: 'deliver_sm_resp', id: 'handset', status: answer.command_status }));
}

const [port, cert, key] = process.argv.slice(2);
const secure = cert ? { cert: fs.readFileSync(cert), key: fs.readFileSync(key) } : {};
const server = smpp.createServer(secure, (session) => {
  const bind = (pdu) => { state.session = session; tell({ pdu: 'bind', system_id: pdu.system_id, password: pdu.password }); session.send(pdu.response({ system_id: 'carrier' })); };
  session.on('bind_transceiver', bind).on('bind_transmitter', bind).on('bind_receiver', bind);
  session.on('enquire_link', (pdu) => session.send(pdu.response()));
  session.on('unbind', (pdu) => { session.send(pdu.response()); session.close(); });
  session.on('error', () => {});
  session.on('submit_sm', (pdu) => {
    const throttled = state.throttle > 0;
    const content = pdu.short_message;
    const udh = content.udh ? Buffer.concat([].concat(content.udh)).toString('hex') : '';
    const id = throttled ? '' : 'c' + String(++state.taken).padStart(6, '0');
    const status = throttled ? smpp.ESME_RTHROTTLED : smpp.ESME_ROK;
    if (throttled) state.throttle--;
    const part = {
      pdu: 'submit_sm', to: pdu.destination_addr, from: pdu.source_addr, data_coding: pdu.data_coding,
      esm_class: pdu.esm_class, registered_delivery: pdu.registered_delivery, udh, status, id,
      // What is longer than short_message travels beside it, and so does a place among segments.
      text: pdu.message_payload ? pdu.message_payload.message : content.message,
      tlvs: Object.fromEntries(Object.keys(pdu).filter((k) => /^\d+$/.test(k)).map((k) => [k, pdu[k].toString('hex')])),
      sar: [pdu.sar_msg_ref_num, pdu.sar_total_segments, pdu.sar_segment_seqnum],
      at_ms: performance.now(),
    };
    tell(part);
    session.send(pdu.response({ command_status: status, message_id: id }));
    if (throttled) return;
    if (state.receipts) receipt(session, part); else state.owed.push([session, part]);
  });
});

server.listen(Number(port), '127.0.0.1', () => tell({ listening: server.address().port }));

readline.createInterface({ input: process.stdin })
  .on('line', (line) => {
    const { deliver: sent, ...rest } = JSON.parse(line);
    Object.assign(state, rest);
    if (rest.data_coding_0) smpp.encodings.default = rest.data_coding_0;
    if (sent) deliver(sent);
    if (state.receipts) { state.owed.splice(0).forEach(([session, part]) => receipt(session, part)); }
    tell({ steered: true });
  })
  .on('close', () => process.exit(0));
