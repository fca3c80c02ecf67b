package providertest

import (
	"testing"

	"github.com/stretchr/testify/require"
)

func TestSuitePasses(t *testing.T) {
	Run(t, newToy(""), toyCase)
}

// Each planted fault fails a check, with a message that says where.
func TestSuiteFindsPlantedFaults(t *testing.T) {
	const (
		list     = "GET api.test/subscribers?page=0"
		balances = "GET api.test/subscribers/s1/balances"
	)
	for plant, want := range map[string]struct {
		check string
		says  []string
	}{
		"key in the identity": {"sources", []string{"a secret shows"}},
		"key in base64":       {"sources", []string{"a secret shows"}},
		"unstable key":        {"sources", nil},
		"forgetful":           {"restore", nil},
		"more requests":       {"requests", []string{balances}},
		"hammers":             {"credentials", []string{list, "→ 401 {}"}},
		"error in a success":  {"documented errors", []string{"→ 200 ", `"unknown key"`}},
		"long message":        {"long messages", []string{"the message is too long"}},
		"accepted is done":    {"not whole", []string{list, "→ 202 "}},
		"0 for missing":       {"mutated answers", []string{"0} was never sent", balances + " (data 0): ", `.value is `, "→ 200 {"}},
		"missing is empty":    {"mutated answers", []string{"all values end", list + " (data 0): .items is ", "→ 200 {"}},
		"unusable rows":       {"drifted answers", []string{"all values end", balances}},
		"any case":            {"keys that differ in case", []string{balances, "987654.5"}},
		"stops at a bad row":  {"one bad row", []string{"it costs the rows of .items[", list}},
		"twice":               {"repeated rows", []string{balances}},
		"counts duplicates":   {"promised rows", []string{list, "a row is that of another page"}},
		"no total":            {"promised rows", []string{list, "a row is missing"}},
		"endless":             {"endless lists", []string{`is not less than or equal to "200"`, "requests before"}},
		"any page":            {"another answer", []string{list + " is answered as GET api.test/subscribers?page=1"}},
		"any subscriber":      {"another answer", []string{balances + " is answered as GET api.test/subscribers/s2/balances"}},
	} {
		t.Run(plant, func(t *testing.T) {
			for _, c := range checks {
				if c.name == want.check {
					err := c.run(t, subject{provider: newToy(plant), Case: toyCase})
					require.Error(t, err, "the suite does not find it")
					for _, text := range want.says {
						require.ErrorContains(t, err, text)
					}
				}
			}
		})
	}
}
