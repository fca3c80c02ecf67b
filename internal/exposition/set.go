package exposition

import (
	"cmp"
	"slices"
	"time"

	"github.com/balance-exporter/balance_exporter/collector"
	"github.com/balance-exporter/balance_exporter/internal/snapshot"
	"github.com/balance-exporter/balance_exporter/providers"
)

// set is the segments of all groups at a time. It is never changed; only its segments
// get forms.
type set struct {
	parts    []*part // in the order of Options.Groups
	families []family
	until    time.Time // when a value expires; zero for never
}

// part is the segments of one group.
type part struct {
	group    *snapshot.Group
	segments []*segment // in the order of collector.DataFamilies
	until    time.Time  // when a value expires; zero for never
}

// family is the segments of one family, in the order of their accounts.
type family struct {
	name     string
	kind     providers.Kind
	segments []*segment
}

// current returns the set of the current groups. It publishes a new one if a group has
// changed; the segments of other groups stay.
func (e *Exposition) current() *set {
	e.publishing.Lock()
	defer e.publishing.Unlock()
	now := time.Now()
	groups := e.opts.Groups()
	old := e.set.Load()
	if old.shows(groups, now) {
		return old
	}
	s := newSet(groups, old, now)
	e.set.Store(s)
	return s
}

// shows reports whether s is current for groups at now.
func (s *set) shows(groups []*snapshot.Group, now time.Time) bool {
	return !over(s.until, now) && slices.EqualFunc(s.parts, groups, func(p *part, g *snapshot.Group) bool { return p.group == g })
}

// over reports whether now is at or after until; zero is never.
func over(until, now time.Time) bool { return !until.IsZero() && !now.Before(until) }

// place is where a group stands: it names the group before and after a change.
type place struct {
	provider, account string
	kind              providers.Kind
	shard             int
}

func placeOf(g *snapshot.Group) place { return place{g.Provider, g.Account, g.Part.Kind, g.Shard} }

func newSet(groups []*snapshot.Group, old *set, now time.Time) *set {
	before := make(map[place]*part, len(old.parts))
	for _, p := range old.parts {
		if !over(p.until, now) {
			before[placeOf(p.group)] = p
		}
	}
	s := &set{parts: make([]*part, len(groups))}
	for i, g := range groups {
		p := before[placeOf(g)]
		if p == nil || p.group != g {
			p = newPart(g, p, now)
		}
		s.parts[i] = p
		if !p.until.IsZero() && (s.until.IsZero() || p.until.Before(s.until)) {
			s.until = p.until
		}
	}
	s.families = familiesOf(s.parts)
	return s
}

// newPart returns the part of a group that replaces before, which may be nil. It
// reads the clock before anything is rendered: if a value expires meanwhile, its
// segment is rendered without it, and once more than needed.
func newPart(g *snapshot.Group, before *part, now time.Time) *part {
	p := &part{group: g, until: g.NextEnd(now)}
	for i, f := range collector.DataFamilies(g.Part.Kind, g.Totals != nil) {
		s := &segment{family: f.Name, group: g}
		if before != nil {
			s.replaces(before.segments[i])
		}
		p.segments = append(p.segments, s)
	}
	return p
}

// familiesOf sorts as a registry does: families by name, and series by the values of
// their labels in the order of the labels' names. In every family, account is the
// first.
func familiesOf(parts []*part) []family {
	parts = slices.Clone(parts)
	slices.SortStableFunc(parts, func(a, b *part) int {
		return cmp.Or(
			cmp.Compare(a.group.Account, b.group.Account),
			cmp.Compare(a.group.Provider, b.group.Provider),
		)
	})
	var families []family
	for _, kind := range providers.Kinds() {
		for _, fleet := range []bool{false, true} {
			for i, f := range collector.DataFamilies(kind, fleet) {
				next := family{name: f.Name, kind: kind}
				for _, p := range parts {
					if p.group.Part.Kind == kind && (p.group.Totals != nil) == fleet {
						next.segments = append(next.segments, p.segments[i])
					}
				}
				families = append(families, next)
			}
		}
	}
	slices.SortFunc(families, func(a, b family) int { return cmp.Compare(a.name, b.name) })
	return families
}
