package clients

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"sync"
	"sync/atomic"
	"testing"

	clientv3 "go.etcd.io/etcd/client/v3"
	"go.etcd.io/etcd/client/v3/concurrency"

	"quorate.dev/quorate/test/clients/site"
)

// session makes a session whose lease outlives a machine that stands still for a while.
func session(t *testing.T, cli *clientv3.Client) *concurrency.Session {
	t.Helper()
	s := must(concurrency.NewSession(cli, concurrency.WithTTL(120)))(t)
	t.Cleanup(func() { _ = s.Close() })
	return s
}

// mutexes: one holder at a time, by several sessions of several clients; who loses the session loses the lock.
func mutexes(t *testing.T, s *site.Site) {
	ctx := t.Context()
	const holders, rounds = 5, 8
	var inside, sum atomic.Int64
	var done sync.WaitGroup
	for range holders {
		cli := s.Client(t)
		m := concurrency.NewMutex(session(t, cli), "mutex/a")
		done.Go(func() {
			for range rounds {
				if err := m.Lock(ctx); err != nil {
					t.Error(err)
					return
				}
				if inside.Add(1) != 1 {
					t.Error("two hold the lock")
				}
				resp, err := cli.Get(ctx, "mutex-sum")
				if err != nil {
					t.Error(err)
					return
				}
				v := 0
				if len(resp.Kvs) > 0 {
					v, _ = strconv.Atoi(string(resp.Kvs[0].Value))
				}
				put, err := cli.Txn(ctx).If(m.IsOwner()).Then(clientv3.OpPut("mutex-sum", fmt.Sprint(v+1))).Commit()
				if err != nil || !put.Succeeded {
					t.Errorf("the holder is not the owner: %v %v", put, err)
				}
				inside.Add(-1)
				sum.Add(1)
				if err := m.Unlock(ctx); err != nil {
					t.Error(err)
				}
			}
		})
	}
	done.Wait()
	cli := s.Client(t)
	equal(t, "increments", sum.Load(), holders*rounds)
	equal(t, "the sum", pairs(must(cli.Get(ctx, "mutex-sum"))(t))["mutex-sum"], holders*rounds)

	first, second := session(t, cli), session(t, s.Client(t))
	held, wanted := concurrency.NewMutex(first, "mutex/b"), concurrency.NewMutex(second, "mutex/b")
	if err := held.Lock(ctx); err != nil {
		t.Fatal(err)
	}
	if err := wanted.TryLock(ctx); !errors.Is(err, concurrency.ErrLocked) {
		t.Errorf("a lock that is held: %v", err)
	}
	waiting := make(chan error, 1)
	go func() { waiting <- wanted.Lock(ctx) }()
	site.Until(t, "the other one waits", func() bool { return must(cli.Get(ctx, "mutex/b/", clientv3.WithPrefix()))(t).Count == 2 })
	must(cli.Revoke(ctx, first.Lease()))(t)
	if err := <-waiting; err != nil {
		t.Fatal(err)
	}
	if resp := must(cli.Txn(ctx).If(held.IsOwner()).Then().Commit())(t); resp.Succeeded {
		t.Error("who lost the session still owns the lock")
	}
	if err := wanted.Unlock(ctx); err != nil {
		t.Error(err)
	}
	if err := wanted.Unlock(ctx); !errors.Is(err, concurrency.ErrLockReleased) {
		t.Errorf("a lock that was released: %v", err)
	}
}

// elections: one leads, its words are observed in order, and the next one in line follows.
func elections(t *testing.T, s *site.Site) {
	ctx := t.Context()
	observer := concurrency.NewElection(session(t, s.Client(t)), "election")
	if _, err := observer.Leader(ctx); !errors.Is(err, concurrency.ErrElectionNoLeader) {
		t.Errorf("nobody leads yet: %v", err)
	}
	watching, stop := context.WithCancel(ctx)
	defer stop()
	seen := observer.Observe(watching)
	expect := func(word string) {
		t.Helper()
		resp, ok := <-seen
		if !ok || string(resp.Kvs[0].Value) != word {
			t.Fatalf("observed %v, want %s", resp, word)
		}
	}
	cli := s.Client(t)
	one, two, three := session(t, cli), session(t, s.Client(t)), session(t, s.Client(t))
	first, second, third := concurrency.NewElection(one, "election"), concurrency.NewElection(two, "election"), concurrency.NewElection(three, "election")
	if err := first.Campaign(ctx, "first"); err != nil {
		t.Fatal(err)
	}
	expect("first")
	if err := second.Proclaim(ctx, "usurper"); !errors.Is(err, concurrency.ErrElectionNotLeader) {
		t.Errorf("who does not lead proclaims: %v", err)
	}
	won := make(chan string, 2)
	campaign := func(e *concurrency.Election, name string, queue int64) {
		go func() {
			if err := e.Campaign(ctx, name); err != nil {
				t.Errorf("%s: %v", name, err)
			}
			won <- name
		}()
		site.Until(t, name+" waits", func() bool { return must(cli.Get(ctx, "election/", clientv3.WithPrefix()))(t).Count == queue })
	}
	campaign(second, "second", 2)
	campaign(third, "third", 3)
	if err := first.Proclaim(ctx, "first again"); err != nil {
		t.Fatal(err)
	}
	expect("first again")
	if err := first.Resign(ctx); err != nil {
		t.Fatal(err)
	}
	equal(t, "the next", <-won, "second")
	expect("second")
	must(cli.Revoke(ctx, two.Lease()))(t) // it dies
	equal(t, "the last", <-won, "third")
	expect("third")
	equal(t, "the leader", string(must(observer.Leader(ctx))(t).Kvs[0].Value), "third")
	if err := second.Proclaim(ctx, "ghost"); err == nil {
		t.Error("who died proclaims")
	}
}

// accounts: transfers under contention keep the sum, at every isolation that promises it, and readers never see it off.
func accounts(t *testing.T, s *site.Site) {
	ctx := t.Context()
	const n, workers, transfers = 4, 6, 12
	for _, level := range []struct {
		name string
		iso  concurrency.Isolation
	}{{"snapshot", concurrency.SerializableSnapshot}, {"serializable", concurrency.Serializable}, {"repeatable", concurrency.RepeatableReads}} {
		cli := s.Client(t)
		key := func(i int) string { return fmt.Sprintf("stm/%s/%d", level.name, i) }
		for i := range n {
			must(cli.Put(ctx, key(i), "100"))(t)
		}
		var tries, committed atomic.Int64
		var done sync.WaitGroup
		for w := range workers {
			own := s.Client(t)
			done.Go(func() {
				for k := range transfers {
					from, to := key((w+k)%n), key((w*k+1)%n)
					resp, err := concurrency.NewSTM(own, func(stm concurrency.STM) error {
						tries.Add(1)
						a, b := number(stm.Get(from)), number(stm.Get(to))
						if from != to {
							stm.Put(from, fmt.Sprint(a-1))
							stm.Put(to, fmt.Sprint(b+1))
						}
						return nil
					}, concurrency.WithIsolation(level.iso))
					if err != nil || !resp.Succeeded {
						t.Errorf("%s: %v %v", level.name, resp, err)
						return
					}
					committed.Add(1)
				}
			})
		}
		ended := make(chan struct{})
		go func() { done.Wait(); close(ended) }()
		for open := true; open; {
			select {
			case <-ended:
				open = false
			default:
			}
			sum := 0
			must(concurrency.NewSTM(cli, func(stm concurrency.STM) error {
				sum = 0
				for i := range n {
					sum += number(stm.Get(key(i)))
				}
				return nil
			}, concurrency.WithIsolation(level.iso)))(t)
			equal(t, level.name+": the sum of all accounts", sum, 100*n)
		}
		equal(t, level.name+": transfers", committed.Load(), workers*transfers)
		t.Logf("%s: %d transfers took %d tries", level.name, committed.Load(), tries.Load())
	}
	failure := errors.New("no")
	if _, err := concurrency.NewSTM(s.Client(t), func(stm concurrency.STM) error { stm.Put("stm/aborted", "x"); return failure }); !errors.Is(err, failure) {
		t.Errorf("a transaction that does not want to: %v", err)
	}
	equal(t, "what it wrote", must(s.Client(t).Get(ctx, "stm/aborted"))(t).Count, 0)
}

func number(text string) int {
	n, _ := strconv.Atoi(text)
	return n
}
