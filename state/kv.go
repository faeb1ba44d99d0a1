package state

import (
	"errors"
	"fmt"

	"quorate.dev/quorate/command"
	"quorate.dev/quorate/fault"
	"quorate.dev/quorate/ids"
	"quorate.dev/quorate/internal/canary"
	"quorate.dev/quorate/mvcc"
	"quorate.dev/quorate/v2store"
	"quorate.dev/quorate/wire"
)

func put(m *Machine, body []byte, r *command.Result) error {
	req := &m.scratch.put
	if err := decode(command.Put, req, body); err != nil {
		return err
	}
	if len(req.Key) == 0 {
		return fault.EmptyKey
	}
	tx := m.keys.Begin(m.batch)
	err := tx.CheckPut(req, m.granted)
	if err == nil {
		r.PrevKV = tx.Put(req)
	}
	m.end(tx)
	return err
}

func deleteRange(m *Machine, body []byte, r *command.Result) error {
	req := &m.scratch.delete
	if err := decode(command.DeleteRange, req, body); err != nil {
		return err
	}
	if len(req.Key) == 0 {
		return fault.EmptyKey
	}
	tx := m.keys.Begin(m.batch)
	r.Deleted, r.PrevKVs = tx.DeleteRange(req.Key, req.RangeEnd)
	m.end(tx)
	return nil
}

func txn(m *Machine, body []byte, r *command.Result) error {
	req := &m.scratch.txn
	if err := decode(command.Txn, req, body); err != nil {
		return err
	}
	puts, err := checkTxn(req)
	if err != nil {
		return err
	}
	if puts && m.alarms.noSpace {
		return fault.NoSpace
	}
	tx := m.keys.Begin(m.batch)
	r.Txn, err = tx.Txn(req, m.granted)
	var expected *fault.Error
	if err != nil && (tx.Changed() || !errors.As(err, &expected)) {
		m.failed = fmt.Errorf("state: apply a transaction: %w", err)
	}
	m.end(tx)
	return err
}

// end closes a Tx: its events become an effect, and leases follow the keys.
func (m *Machine) end(tx *mvcc.Tx) {
	if err := tx.Err(); err != nil {
		m.failed = fmt.Errorf("state: read a value before its change: %w", err)
	}
	events := tx.End()
	if events == nil {
		return
	}
	if n := len(events.Events); canary.On(canary.EventTwice) && n > 1 {
		events.Events = append(events.Events, events.Events[n-1])
	}
	if canary.On(canary.ForgetPrev) && events.Revision%7 == 0 {
		events.Events[0].PrevKV = nil
	}
	m.effects.Events = append(m.effects.Events, events)
	for _, c := range tx.Changes() {
		if c.OldLease == c.NewLease {
			continue
		}
		if c.OldLease != 0 {
			m.leases.Detach(c.OldLease, c.Key)
		}
		if c.NewLease != 0 {
			m.leases.Attach(c.NewLease, c.Key)
		}
	}
	if m.v2.Mode() == v2store.Shared && !m.v2.writing {
		m.follow(events)
	}
}

// checkTxn checks the form of a transaction, both branches and what nests in them, and says whether any of it puts. The front
// has checked more than this before it proposed; what is checked here again is what the store relies on.
func checkTxn(req *wire.TxnRequest) (puts bool, err error) {
	for i := range req.Compare {
		if len(req.Compare[i].Key) == 0 {
			return false, fault.EmptyKey
		}
	}
	for _, ops := range [...][]wire.RequestOp{req.Success, req.Failure} {
		for i := range ops {
			more, err := checkOp(&ops[i])
			if err != nil {
				return false, err
			}
			puts = puts || more
		}
	}
	return puts, nil
}

func checkOp(op *wire.RequestOp) (puts bool, err error) {
	var key []byte
	switch {
	case op.Put != nil:
		puts, key = true, op.Put.Key
	case op.Range != nil:
		key = op.Range.Key
		if r := op.Range; r.SortOrder < wire.SortNone || r.SortOrder > wire.SortDescend || r.SortTarget < wire.SortByKey || r.SortTarget > wire.SortByValue {
			return false, fault.InvalidSortOption
		}
	case op.DeleteRange != nil:
		key = op.DeleteRange.Key
	case op.Txn != nil:
		return checkTxn(op.Txn)
	default:
		return false, fault.KeyNotFound // as the front answers an operation without a request
	}
	if len(key) == 0 {
		return false, fault.EmptyKey
	}
	return puts, nil
}

func compaction(m *Machine, body []byte, _ *command.Result) error {
	var req wire.CompactionRequest
	if err := decode(command.Compaction, &req, body); err != nil {
		return err
	}
	previous, at := m.keys.Compacted(), ids.Revision(req.Revision)
	if err := m.keys.Compact(m.batch, at); err != nil {
		return err
	}
	m.effects.Compacted = &Compaction{Previous: previous, At: at}
	return nil
}
