package check

import "testing"

func TestHashes(t *testing.T) {
	for _, c := range []struct {
		name, rule, text string
		plant            func(h []StateHash)
		found            int
	}{
		{"as it should be", "", "", func([]StateHash) {}, 0},
		{"one differs", "two states of one index", "after entry 3 member a has hash 0000000000000103 at revision 4, member b has hash 0000000000000666", func(h []StateHash) {
			h[7].Hash, h[10].Hash, h[13].Hash = 0x666, 0x666, 0x666 // b, from entry 3 on
		}, 2}, // from a and from c
		{"all differ", "two states of one index", "member b has hash 0000000000000002 at revision 3, member c", func(h []StateHash) { h[3].Hash, h[4].Hash, h[5].Hash = 1, 2, 3 }, 3},
		{"only the revision differs", "two states of one index", "at revision 9", func(h []StateHash) { h[4].Revision = 9 }, 2},
		{"back", "a revision that goes back", "after entry 3", func(h []StateHash) { h[6].Revision, h[7].Revision, h[8].Revision = 8, 8, 8 }, 1},
		{"another state after a restart", "two states of one index", "after entry 2 member c has hash 0000000000000005 at revision 3, member c has hash 0000000000000102", func(h []StateHash) {
			h[0] = StateHash{Member: "c", Index: 2, Revision: 3, Hash: 5} // a's first one, which is not missed
		}, 3},
	} {
		t.Run(c.name, func(t *testing.T) {
			var h []StateHash
			for index := range uint64(6) {
				for _, m := range []string{"a", "b", "c"} {
					h = append(h, StateHash{Member: m, Index: index + 1, Revision: int64(index + 2), Hash: 0x100 + index + 1})
				}
			}
			c.plant(h)
			r := Hashes(h)
			wantViolation(t, r, c.rule, c.text)
			if len(r.Violations) != c.found {
				t.Fatalf("%d violations, want %d: %v", len(r.Violations), c.found, r.Violations)
			}
		})
	}
}
