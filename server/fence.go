package server

import (
	"errors"

	"go.uber.org/zap"

	"quorate.dev/quorate/node"
)

// errFenced ends the service of a member whose data has just been found to differ: it starts again without serving data, so
// that its clients' connections and watches end and they go elsewhere.
var errFenced = errors.New("this member's data differs from that of the others: it goes on without serving it")

// fence takes this member out of service or back into it, by the alarms of the moment. It is told of every change of alarms and
// members, and once at the start.
func (p *peers) fence(h *node.Host, start bool) {
	p.fencing.Lock()
	defer p.fencing.Unlock()
	id := p.s.core.identity.member
	fenced := p.s.core.machine.View().Fenced(id)
	h.Fence(fenced)
	switch {
	case fenced && !p.fenced:
		p.s.logger.Error("this member is fenced: a CORRUPT alarm names it, because its data differs from that of the other members. It keeps voting and "+
			"serves no data. To heal it, stop it, run \"quorate heal\" with its --data-dir, and start it again; then disarm the alarm",
			zap.Stringer("local-member-id", id), zap.String("data-dir", p.s.dir.path))
		if !start {
			p.s.fail(errFenced)
		}
	case !fenced && p.fenced:
		p.s.logger.Info("this member is not fenced any more", zap.Stringer("local-member-id", id))
	}
	p.fenced = fenced
}
