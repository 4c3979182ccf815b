// Package kernels holds the inner loops: slices in, slices out, one operation
// a file, the generic Go function first. That function is the definition of
// the operation; every faster variant must equal it, bit for bit where the
// operation is exact.
//
// Start with Host, which says what this CPU can do, and with PackConvInt8,
// PackGEMMInt8 and PackConvF32, which lay weights out for one Target; what
// they return has a Run that allocates nothing and may be called from many
// goroutines at once, each with its own scratch.
//
// Exact operations are all integer ones, and the float ones of a Target with
// Exact set: they give the same bits on every CPU. For that the definitions
// convert each product explicitly, float32(a*b), before they add to it: the
// language lets a compiler fuse a*b+c into one rounding, and on arm64 Go does
// (https://go.dev/ref/spec#Floating_point_operators). A test looks for fused
// instructions in the object code.
//
// Convolutions and pools read and write NHWC: the channels of one pixel lie
// side by side. Slices may not overlap where a function does not say so.
// Lengths that do not fit are a caller's mistake and panic; what comes from a
// file is checked where the kernel is made (PackX returns an error).
//
// To add a tier to an operation x: write its loop and, if it needs another
// weight layout, its packing; add one row to xNative in native_<arch>.go, from
// where it comes into the table xVariants. That row is dispatch, test and
// benchmark: TestEveryVariant and BenchmarkEveryVariant go over all rows.
//
// To add an operation x: write its definition and its table in x.go, whose
// last row is the definition; xNative in each native_<arch>.go and in
// native_noasm.go; and one row in operations (operations_test.go) with a check
// against the definition and a benchmark. A test fails while that is missing.
//
// The assembly of amd64 is written by a program in _gen ("go generate
// ./kernels"), that of arm64 by hand, with a macro for each instruction that
// Go's assembler lacks (neon_arm64.h).
//
// The package knows no graph, no tensor and no file.
package kernels
