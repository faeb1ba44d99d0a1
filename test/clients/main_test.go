package clients

import (
	"os"
	"testing"

	"quorate.dev/quorate/test/clients/site"
	"quorate.dev/quorate/test/compat/proc"
)

func TestMain(m *testing.M) {
	code := m.Run()
	proc.Cleanup()
	os.Exit(code)
}

// TestPackages uses the higher packages of the official client on one site for each way.
func TestPackages(t *testing.T) {
	site.Each(t, func(t *testing.T, s *site.Site) {
		for _, c := range []struct {
			name string
			test func(*testing.T, *site.Site)
		}{
			{"namespace", namespaces}, {"leasing", leases}, {"ordering", order}, {"mirror", mirrors}, {"mutex", mutexes}, {"election", elections},
			{"stm", accounts}, {"kubernetes", objects}, {"naming", names},
		} {
			t.Run(c.name, func(t *testing.T) { c.test(t, s) })
		}
	})
}
