package cli

// Bar shows on a terminal how far something is. A nil one shows nothing.
type Bar struct{ p *progress }

// Bar begins a bar for what is being done, counted in unit; "" is bytes. It is nil when nobody would see it.
func (s *Session) Bar(what, unit string, total int64) *Bar {
	if !OnTerminal(s.Process.Stderr) {
		return nil
	}
	return &Bar{newProgress(s, what, unit, total)}
}

// To says how much is done.
func (b *Bar) To(done int64) {
	if b != nil {
		b.p.to(done)
	}
}

// End takes the bar away.
func (b *Bar) End() {
	if b != nil {
		b.p.end()
	}
}
