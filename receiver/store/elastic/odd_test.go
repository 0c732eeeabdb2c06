package elastic_test

import (
	"fmt"
	"maps"
	"math/bits"
	"strings"
)

// odd are more lines that engines refuse or read in another way than one thinks,
// by kind.
func odd() map[string]string {
	lines := make(map[string]string)
	for _, kind := range []func() map[string]string{oddNames, oddNumbers, oddTimes, oddShapes, oddTexts, oddPairs} {
		maps.Copy(lines, kind())
	}
	return lines
}

func oddNames() map[string]string {
	name := func(s string) string { return fmt.Sprintf(`{"%s":1}`, s) }
	return map[string]string{
		"a name of two words":                  name("two words"),
		"a name with a colon":                  name("a:b"),
		"a name with brackets":                 name("a[0]"),
		"a name with quotes and backslashes":   name(`q\"q\\q`),
		"a name with a slash, a hash, a comma": name("a/b#c,d"),
		"a name with a new line":               name(`a\nb`),
		"a name of two dots":                   name(".."),
		"a name of blanks between dots":        name("a. .b"),
		"a name of a no-break space":           name("\u00a0"),
		"a name of a zero-width space":         name("\u200b"),
		"a name with a BOM":                    name("\ufeffbom"),
		"a name with a non-character":          name("\uffff"),
		"a name of an emoji":                   name("\U0001f600"),
		"a name from right to left":            name("\u202eabc"),
		"a name that differs in case":          `{"CaseD":1,"cased":2}`,
		"a name that differs in form":          "{\"\u00e9\":1,\"e\u0301\":2}",
		"a name of 512 bytes":                  name(strings.Repeat("m", 512)),
		"a name of 513 bytes":                  name(strings.Repeat("m", 513)),
		"a name of 20 parts":                   name(strings.TrimSuffix(strings.Repeat("l.", 20), ".")),
		"a name of 100 dots":                   name(strings.Repeat(".", 100)),
		"_id and a field":                      `{"_id":"1","a_field":1}`,
		"_source as a name":                    `{"_source":{"enabled":false}}`,
		"_ignored as a name":                   `{"_ignored":["a"]}`,
		"_size and _tier":                      `{"_size":1,"_tier":"x"}`,
		"_data_stream_timestamp":               `{"_data_stream_timestamp":{"enabled":true}}`,
		"a nested name of the engine's":        `{"nested":{"_id":1,"_type":"x"}}`,
		"words of a mapping":                   `{"properties":{"type":"nested"},"type":"object","dynamic":"strict"}`,
		"a field below a time":                 `{"@timestamp":"2026-03-14T09:00:00Z","@timestamp.nested":1}`,
		"names of prototypes":                  `{"__proto__":{"x":1},"constructor":1}`,
	}
}

func oddNumbers() map[string]string {
	lines := map[string]string{"a number's field with all of them": `{"all":[0,-0,1,-1,1.0,1e2,true,null,"1"]}`}
	for i, n := range []string{
		"9223372036854775807", "-9223372036854775808", "9223372036854775808", "-9223372036854775809",
		"18446744073709551616",
		"1e400", "-1e400", "1e-400", "4.9e-324", "1.7976931348623157e308", "3.5e38", "1E+2", "-0", "0e0", "NaN",
		"-Infinity", "0x10", "01", "1.", strings.Repeat("1", 400),
	} {
		lines[fmt.Sprintf("a number: %.25s", n)] = fmt.Sprintf(`{"num%d":%s}`, i, n)
	}
	return lines
}

func oddTimes() map[string]string {
	lines := make(map[string]string)
	for i, at := range []string{
		"2026-02-30", "2026-366", "2026-W48-7", "24:00:00", "2026-03-14T24:00:00Z", "2026-03-14T09:00:60Z",
		"2026-03-14T09:00:00.123456789123Z", "2026-03-14t09:00:00z", "Sat, 14 Mar 2026 09:00:00 GMT",
		"14/Mar/2026:09:00:00 +0100", "Mar 14 09:00:00", "1773478800", "1773478800.123", "-62135596800",
		"+1000000-01-01", "-0001-01-01T00:00:00Z", "0000-00-00", "now", "2026-03-14||+1d",
		"2026-03-14T09:00:00[Europe/Berlin]", "2026-03-14T09:00:00−01:00",
	} {
		lines["a time and a field of: "+at] = fmt.Sprintf(`{"@timestamp":%q,"when%d":[%[1]q]}`, at, i)
	}
	lines["a time as a float"] = `{"@timestamp":1773478800.5}`
	lines["a time as a large number"] = `{"@timestamp":99999999999999999}`
	return lines
}

func oddShapes() map[string]string {
	return map[string]string{
		"a point":                         `{"geo1":[13.4,52.5]}`,
		"points":                          `{"geo2":[[13.4,52.5],[1,2]]}`,
		"a polygon with a word":           `{"geo3":{"type":"Polygon","coordinates":[[[1,2],[3,"x"]]]}}`,
		"a point beyond the poles":        `{"geo4":{"lat":"91","lon":1e9}}`,
		"a point and its text":            `{"geo5":[{"lat":1,"lon":2},"1,2"]}`,
		"addresses":                       `{"ip1":["203.0.113.7","::1","203.0.113.0/24","999.1.1.1",2130706433]}`,
		"an address of an interface":      `{"source":{"ip":"fe80::1%eth0"}}`,
		"an address with a port":          `{"source":{"ip":"203.0.113.7:80"}}`,
		"arrays of arrays of objects":     `{"aao":[[{"a":1}],[[{"a":"x"}]],{"a":[{"b":1}]}]}`,
		"empty objects and arrays":        `{"e1":{},"e2":[],"e3":[{}],"e4":[[]],"e5":{"e":{}}}`,
		"an empty object":                 `{}`,
		"an empty object, then a word":    `{"eo":[{},"x"]}`,
		"null and nothing but null":       `{"nu":null,"nul":[null,null]}`,
		"an object and then its field":    `{"ob":{"a":1},"ob.a":"x","ob.a.b":2}`,
		"a hundred numbers and a word":    `{"hundred":[` + strings.Repeat("1,", 100) + `"x"]}`,
		"an array of 100,000":             `{"long_array":[` + strings.Repeat("1,", 99_999) + `1]}`,
		"1,000 objects in an array":       `{"objects":[` + strings.Repeat(`{"k":"v","n":1},`, 999) + `{"k":{"v":1}}]}`,
		"99 names":                        manyNames("x", 99),
		"5,000 names in an object":        `{"inner":` + manyNames("y", 5000) + `}`,
		"a name twice, an object and one": `{"tw":{"a":1},"tw":1}`,
		"blanks between":                  " { \"bl\" :\t[ 1 ,\r\t2 ] } ",
		"an object behind a BOM":          "\ufeff{\"bom\":1}",
		"an object behind a NUL":          "\x00{\"nul\":1}",
		"single quotes":                   `{'a':1}`,
		"a comma too many":                `{"a":1,}`,
		"an array of lines":               `[{"index":{}},{"a":1}]`,
		"null as a line":                  `null`,
		"an update of a bulk":             `{"update":{"_id":"x"}}` + "\r" + `{"doc":{"a":1}}`,
		"a script":                        `{"script":{"source":"while(true){}"},"doc":{"a":1},"upsert":{}}`,
		"a query":                         `{"query":{"match_all":{}},"size":100000}`,
	}
}

func manyNames(prefix string, n int) string {
	var b strings.Builder
	for i := range n {
		fmt.Fprintf(&b, `,"%s%d":%d`, prefix, i, i)
	}
	return "{" + b.String()[1:] + "}"
}

func oddTexts() map[string]string {
	lines := map[string]string{
		"two halves of surrogates, the wrong way":     `{"sur":"\ude00\ud83d"}`,
		"a half of a surrogate at the end of a field": `{"sur":["\ud83d\ude00","x\udbff"]}`,
		"non-characters":                       "{\"non\":\"\ufffe\uffff\U0001ffff\"}",
		"a surrogate as bytes":                 "{\"byt\":\"\xed\xa0\x80\"}",
		"an overlong NUL":                      "{\"ove\":\"\xc0\x80\"}",
		"all control characters":               `{"con":"\u0001\u0007\u0008\u001b\u007f\u0085\u2028\u2029"}`,
		"control characters as bytes":          "a\x01\x07\x1b[31m\x7f\tb\r",
		"a BOM only":                           "\ufeff",
		"blanks only":                          " \t ",
		"a line of 15 MiB":                     strings.Repeat("0123456789abcdef", 15<<16),
		"an object of 2 MiB":                   `{"large":"` + strings.Repeat("0123456789abcdef", 2<<16) + `"}`,
		"a word of 1,000,000 bytes in a field": `{"word":"` + strings.Repeat("w", 1_000_000) + `"}`,
		"300,000 words in a field":             `{"words":"` + strings.Repeat("ab ", 300_000) + `"}`,
		"1,000 combining characters":           `{"zalgo":"a` + strings.Repeat("\u0301", 1000) + `"}`,
	}
	// A keyword takes at most 32,766 bytes.
	for _, n := range []int{32_766, 32_767} {
		lines[fmt.Sprintf("a keyword of %d bytes", n)] = fmt.Sprintf(`{"host":{"name":"%s"}}`, strings.Repeat("k", n))
	}
	lines["a keyword of 32,768 bytes in wide characters"] = fmt.Sprintf(`{"log":{"level":"%s"}}`,
		strings.Repeat("é", 32_768/2))
	return lines
}

// oddPairs are two values of different types under one new name.
func oddPairs() map[string]string {
	values := []string{`"x"`, `1`, `1.5`, `true`, `{"a":1}`, `[1]`, `"2026-01-01"`}
	lines := make(map[string]string)
	for set := range 1 << len(values) {
		if bits.OnesCount(uint(set)) != 2 {
			continue
		}
		i, j := bits.TrailingZeros(uint(set)), bits.Len(uint(set))-1
		lines[fmt.Sprintf("a pair: %s, %s", values[i], values[j])] = fmt.Sprintf(`{"pair%d":[%s,%s]}`, set, values[i],
			values[j])
		lines[fmt.Sprintf("a pair: %s, %s", values[j], values[i])] = fmt.Sprintf(`{"riap%d":[%s,%s]}`, set, values[j],
			values[i])
	}
	return lines
}
