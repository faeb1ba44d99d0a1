package k8s

import (
	"errors"
	"fmt"
	"testing"
)

// TestSearch: the result holds, and is as close as asked to what does not; nothing is tried that the bounds forbid.
func TestSearch(t *testing.T) {
	for _, c := range []struct{ start, most, truth, low int }{
		{100, 1000, 1000, 1000}, // everything holds
		{100, 1000, 730, 621},
		{100, 1000, 100, 85},
		{100, 1000, 40, 34}, // less than the begin
		{100, 1000, 0, 0},   // nothing holds
		{500, 300, 300, 300},
	} {
		tried := ""
		got, err := search(c.start, c.most, 0.15, func(n int) (bool, error) {
			tried += fmt.Sprint(n, " ")
			if n < 1 || n > c.most {
				t.Errorf("%+v: tried %d", c, n)
			}
			return n <= c.truth, nil
		})
		if err != nil || got > c.truth || got < c.low {
			t.Errorf("%+v: %d, %v; tried %s", c, got, err, tried)
		}
	}
	fault := errors.New("the server is gone")
	if got, err := search(100, 1000, 0.1, func(n int) (bool, error) {
		if n > 200 {
			return false, fault
		}
		return true, nil
	}); got != 200 || !errors.Is(err, fault) {
		t.Errorf("%d, %v", got, err)
	}
}
