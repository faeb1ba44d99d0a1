// Everyday use of the npm package etcd3: put, get, ranges, watch, lease, lock, election, transaction. Every step checks its
// outcome and prints a line; the test compares the lines that two servers lead to.
'use strict';
const assert = require('node:assert');
const { once } = require('node:events');
const { Etcd3 } = require('etcd3');

const say = (what, value) => console.log(what, JSON.stringify(value));

async function keys(client) {
  await client.put('fruit/apple').value('red');
  await client.put('fruit/banana').value('yellow');
  await client.put('fruit/cherry').value(Buffer.from([0, 1, 254, 255]));
  assert.strictEqual(await client.get('fruit/apple').string(), 'red');
  assert.deepStrictEqual(await client.get('fruit/cherry').buffer(), Buffer.from([0, 1, 254, 255]));
  assert.strictEqual(await client.get('nothing').string(), null);
  say('keys', await client.getAll().prefix('fruit/').keys());
  say('sorted', await client.getAll().prefix('fruit/').sort('Mod', 'Descend').limit(2).keys());
  say('count', await client.getAll().prefix('fruit/').count());
  const res = await client.getAll().prefix('fruit/').exec();
  say('answer', { kvs: res.kvs.length, more: res.more, count: res.count, revision: res.header.revision });
  say('deleted', (await client.delete().key('fruit/banana')).deleted);
  assert.strictEqual(await client.get('fruit/banana').exists(), false);
}

async function watch(client) {
  const watcher = await client.watch().prefix('w/').withPreviousKV().create();
  const seen = [];
  const done = new Promise((resolve) => {
    watcher.on('data', (res) => {
      for (const e of res.events) {
        seen.push([e.type, e.kv.key.toString(), e.kv.value.toString(), e.prev_kv ? e.prev_kv.value.toString() : null]);
      }
      if (seen.length === 4) resolve();
    });
  });
  await client.put('w/a').value('1');
  await client.put('w/a').value('2');
  await client.put('other').value('x');
  await client.put('w/b').value('1');
  await client.delete().key('w/a');
  await done;
  say('events', seen);
  await watcher.cancel();

  const { kvs } = await client.getAll().prefix('w/').exec();
  const past = await client.watch().key('w/b').startRevision(kvs[0].create_revision).create();
  const [put] = await once(past, 'put');
  say('past', [put.key.toString(), put.value.toString()]);
  await past.cancel();
}

async function lease(client) {
  const lease = client.lease(10);
  await lease.put('leased/a').value('1');
  await lease.keepaliveOnce();
  say('leased', await client.getAll().prefix('leased/').keys());
  await lease.revoke();
  say('after revoke', await client.getAll().prefix('leased/').keys());
  const short = client.lease(2, { autoKeepAlive: false });
  const gone = await client.watch().key('leased/b').create();
  await short.put('leased/b').value('1');
  await once(gone, 'delete');
  say('expired', await client.get('leased/b').exists());
  await gone.cancel();
}

async function locks(client) {
  const order = [];
  await client.lock('mutex').do(async () => {
    order.push('first in');
    const other = client.lock('mutex');
    await assert.rejects(client.lock('mutex').ttl(5).do(() => order.push('never')), /lock/i);
    order.push('first out');
    assert.ok(other);
  });
  await client.lock('mutex').do(() => order.push('second'));
  say('lock', order);

  const election = client.election('leader');
  const campaign = election.campaign('candidate');
  await once(campaign, 'elected');
  say('leader', await election.leader());
  await campaign.resign();
}

async function txn(client) {
  const put = (v) => client.if('t', 'Create', '==', 0).then(client.put('t').value(v)).else(client.get('t')).commit();
  const first = await put('1');
  const second = await put('2');
  say('txn', [first.succeeded, second.succeeded, second.responses[0].response_range.kvs[0].value.toString()]);
  const many = await client.stm().transact((tx) => tx.get('t').string().then((v) => tx.put('t').value(v + '!')));
  assert.ok(many !== null);
  say('stm', await client.get('t').string());
}

async function failures(client) {
  await assert.rejects(client.put('').value('x').exec(), /key is not provided/);
  await assert.rejects(client.get('t').revision(1000000).exec(), /future revision/);
  say('errors', 'as they should be');
}

async function main() {
  const client = new Etcd3({ hosts: process.argv[2] });
  for (const part of [keys, watch, lease, locks, txn, failures]) {
    await part(client);
  }
  client.close();
}

main().catch((err) => {
  console.error(err);
  process.exit(1);
});
