package leader

// Round makes one round on the caller's goroutine, so that a test decides when.
func (d *Duty) Round() { d.round() }
