package exposition

import (
	"cmp"
	"slices"
	"time"

	"github.com/balance-exporter/balance_exporter/collector"
	"github.com/balance-exporter/balance_exporter/internal/snapshot"
	"github.com/balance-exporter/balance_exporter/providers"
)

// set is the segments of everything that is known at a time. It is never changed,
// only its segments get forms.
type set struct {
	parts    []*part // in the order of Options.Groups
	families []family
	until    time.Time // then a value ends; zero for never
}

// part is the segments of one group.
type part struct {
	group    *snapshot.Group
	segments []*segment // in the order of collector.DataFamilies
	until    time.Time  // then a value ends; zero for never
}

// family is the segments of one family, in the order of their accounts.
type family struct {
	name     string
	kind     providers.Kind
	segments []*segment
}

// current returns the set of what is known now. It publishes a new one if
// anything has changed; segments of groups that have not changed go on.
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

// shows reports whether s is right for groups at now.
func (s *set) shows(groups []*snapshot.Group, now time.Time) bool {
	return !over(s.until, now) && slices.EqualFunc(s.parts, groups, func(p *part, g *snapshot.Group) bool { return p.group == g })
}

// over reports whether now is at or after until; zero is never.
func over(until, now time.Time) bool { return !until.IsZero() && !now.Before(until) }

func newSet(groups []*snapshot.Group, old *set, now time.Time) *set {
	before := make(map[*snapshot.Group]*part, len(old.parts))
	for _, p := range old.parts {
		if !over(p.until, now) {
			before[p.group] = p
		}
	}
	s := &set{parts: make([]*part, len(groups))}
	for i, g := range groups {
		p := before[g]
		if p == nil {
			p = newPart(g, now)
		}
		s.parts[i] = p
		if !p.until.IsZero() && (s.until.IsZero() || p.until.Before(s.until)) {
			s.until = p.until
		}
	}
	s.families = familiesOf(s.parts)
	return s
}

// newPart reads the clock before anything is rendered: should a value end in
// between, its segment is rendered without it and once more than needed.
func newPart(g *snapshot.Group, now time.Time) *part {
	p := &part{group: g, until: g.NextEnd(now)}
	for _, f := range collector.DataFamilies(g.Part.Kind) {
		p.segments = append(p.segments, &segment{family: f.Name, group: g})
	}
	return p
}

// familiesOf sorts as a registry does: families by name, and series by the values
// of their labels in the order of the labels' names, of which account is the first
// in every family.
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
		for i, f := range collector.DataFamilies(kind) {
			next := family{name: f.Name, kind: kind}
			for _, p := range parts {
				if p.group.Part.Kind == kind {
					next.segments = append(next.segments, p.segments[i])
				}
			}
			families = append(families, next)
		}
	}
	slices.SortFunc(families, func(a, b family) int { return cmp.Compare(a.name, b.name) })
	return families
}
