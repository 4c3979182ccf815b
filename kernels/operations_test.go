package kernels

import (
	"go/ast"
	"go/parser"
	"go/token"
	"os"
	"slices"
	"strings"
	"testing"
)

// operation is one table of variants and what is done with each of its rows:
// check compares it with the definition, bench times it.
type operation struct {
	name  string // the table is nameVariants, but for the case of the first letter
	rows  []Target
	peak  func(Tier) float64 // products a second at most; nil: what it does is not products
	check func(t *testing.T, target Target)
	bench func(run measure)
}

// operations are all there are: TestEveryTableIsAnOperation sees to it.
var operations = []operation{
	{"GEMMInt8", targetsOf(gemmInt8Variants), PeakInt8, checkGEMMInt8, benchGEMMInt8},
	{"ConvInt8", targetsOf(convInt8Variants), PeakInt8, checkConvInt8, benchConvInt8},
	{"DepthwiseInt8", targetsOf(depthwiseInt8Variants), PeakInt8, checkDepthwiseInt8, benchDepthwiseInt8},
	{"MatMulInt8", targetsOf(matMulInt8Variants), PeakF32, checkMatMulInt8, benchMatMulInt8},
	{"GEMMF32", targetsOf(gemmF32Variants), PeakF32, checkGEMMF32, benchGEMMF32},
	{"GEMMF16", targetsOf(gemmF16Variants), PeakF32, checkGEMMF16, benchGEMMF16},
	{"ProductF32", targetsOf(productF32Variants), PeakF32, checkProductF32, benchProductF32},
	{"ConvF32", targetsOf(convF32Variants), PeakF32, checkConvF32, benchConvF32},
	{"DepthwiseF32", targetsOf(depthwiseF32Variants), PeakF32, checkDepthwiseF32, benchDepthwiseF32},

	{"AddInt8", targetsOf(addInt8Variants), nil, checkAddInt8, benchAddInt8},
	{"QuantizeInt8", targetsOf(quantizeInt8Variants), nil, checkQuantize[int8], benchQuantize[int8]},
	{"QuantizeUint8", targetsOf(quantizeUint8Variants), nil, checkQuantize[uint8], benchQuantize[uint8]},
	{"QuantizePlanes", targetsOf(quantizePlanesVariants), nil, checkQuantizePlanes, benchQuantizePlanes},
	{"DequantizeInt8", targetsOf(dequantizeInt8Variants), nil, checkDequantize[int8], benchDequantize[int8]},
	{"DequantizeUint8", targetsOf(dequantizeUint8Variants), nil, checkDequantize[uint8], benchDequantize[uint8]},
	{"DequantizeInt32", targetsOf(dequantizeInt32Variants), nil, checkDequantize[int32], benchDequantize[int32]},
	{"MaxPoolInt8", targetsOf(maxPoolInt8Variants), nil, checkMaxPoolInt8, benchMaxPoolInt8},
	{"MaxPoolF32", targetsOf(maxPoolF32Variants), nil, checkMaxPoolF32, benchMaxPoolF32},
	{"AveragePoolInt8", targetsOf(averagePoolInt8Variants), nil, checkAveragePoolInt8, benchAveragePoolInt8},
	{"AveragePoolF32", targetsOf(averagePoolF32Variants), nil, checkAveragePoolF32, benchAveragePoolF32},
	{"RowsF32", targetsOf(rowsF32Variants), nil, checkRowsF32, benchRowsF32},
	{"StridedF32", targetsOf(stridedF32Variants), nil, checkStridedF32, benchStridedF32},
	{"Transpose", targetsOf(transposeVariants), nil, checkTranspose, benchTranspose},
	{"Smooth", targetsOf(smoothVariants), nil, checkSmooth, benchSmooth},
	{"Softmax", targetsOf(softmaxVariants), nil, checkSoftmax, benchSoftmax},
	{"Standardize", targetsOf(standardizeVariants), nil, checkStandardize, benchStandardize},
	{"Span", targetsOf(spanVariants), nil, checkSpan, benchSpan},
	{"AdamF32", targetsOf(adamF32Variants), nil, checkAdamF32, benchAdamF32},
}

func TestEveryVariant(t *testing.T) {
	for _, o := range operations {
		t.Run(o.name, func(t *testing.T) { forTargets(t, o.rows, o.check) })
	}
}

func BenchmarkEveryVariant(b *testing.B) {
	for _, o := range operations {
		b.Run(o.name, func(b *testing.B) { o.bench(measuring(b, o.rows, o.peak)) })
	}
}

// What pick chooses from is a table with a row in operations, so that no
// variant goes without a test and a benchmark; and each row there has both.
func TestEveryTableIsAnOperation(t *testing.T) {
	known := map[string]bool{}
	for _, o := range operations {
		known[strings.ToLower(o.name+"Variants")] = true
		if o.check == nil || o.bench == nil {
			t.Errorf("%s: no check or no benchmark", o.name)
		}
	}
	picked := map[string]bool{}
	for name, file := range sources(t) {
		ast.Inspect(file, func(n ast.Node) bool {
			call, ok := n.(*ast.CallExpr)
			if !ok {
				return true
			}
			if f, ok := call.Fun.(*ast.Ident); ok && f.Name == "pick" {
				table, ok := call.Args[1].(*ast.Ident)
				if !ok || !known[strings.ToLower(table.Name)] {
					t.Errorf("%s: pick chooses from what is not in operations", name)
				} else {
					picked[strings.ToLower(table.Name)] = true
				}
			}
			return true
		})
	}
	for table := range known {
		if !picked[table] {
			t.Errorf("%s: pick never chooses from it", table)
		}
	}
}

// sources are the files of the package that are no tests.
func sources(t *testing.T) map[string]*ast.File {
	t.Helper()
	entries, err := os.ReadDir(".")
	if err != nil {
		t.Fatal(err)
	}
	files := map[string]*ast.File{}
	for _, e := range entries {
		if name := e.Name(); strings.HasSuffix(name, ".go") && !strings.HasSuffix(name, "_test.go") {
			if files[name], err = parser.ParseFile(token.NewFileSet(), name, nil, 0); err != nil {
				t.Fatal(err)
			}
		}
	}
	return files
}

// targetsOf returns what each row of a table is for.
func targetsOf[F any](rows []variant[F]) []Target {
	var targets []Target
	for _, r := range rows {
		targets = append(targets, Target{Tier: r.tier, Exact: r.exact})
	}
	return targets
}

// rowName is what tests and benchmarks call a row.
func rowName(row Target) string {
	if row.Exact {
		return row.Tier.String() + "-exact"
	}
	return row.Tier.String()
}

// forTargets runs f for each row that this CPU has and DUNLIN_KERNELS allows.
func forTargets(t *testing.T, rows []Target, f func(t *testing.T, target Target)) {
	t.Helper()
	host, err := Host("")
	if err != nil {
		t.Fatal(err)
	}
	tested := 0
	for _, row := range rows {
		if row.Tier > host.Tier || !slices.Contains(hostTiers(), row.Tier) {
			continue
		}
		tested++
		t.Run(rowName(row), func(t *testing.T) { f(t, row) })
	}
	if tested == 0 {
		t.Fatal("no variant was tested")
	}
}

// forVariants is forTargets over a table, for what a test asks of it beside
// the check of its operation.
func forVariants[F any](t *testing.T, rows []variant[F], f func(t *testing.T, target Target)) {
	t.Helper()
	forTargets(t, targetsOf(rows), f)
}
