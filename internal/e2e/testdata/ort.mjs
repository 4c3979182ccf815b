// Runs models in ONNX Runtime: node ort.mjs < jobs.json
//
// Standard input: [{"model": "a.onnx", "inputs": [{"name", "dtype", "shape", "file"}], "out": "folder/prefix-"}]
// Each output is written to out + its number, as raw little-endian values; a
// model that cannot be loaded or run is told on standard error, status 1.
// Nothing is fused (graphOptimizationLevel disabled): what runs is what the
// file says.
import { createRequire } from 'node:module';
import { readFileSync, writeFileSync } from 'node:fs';
const ort = createRequire(import.meta.url)('onnxruntime-node');
const ARRAY = {
  float32: Float32Array, float64: Float64Array, float16: Uint16Array, int64: BigInt64Array, uint64: BigUint64Array, int32: Int32Array,
  uint32: Uint32Array, int16: Int16Array, uint16: Uint16Array, int8: Int8Array, uint8: Uint8Array, bool: Uint8Array,
};
const options = { intraOpNumThreads: 1, interOpNumThreads: 1, graphOptimizationLevel: 'disabled', logSeverityLevel: 3 };
for (const job of JSON.parse(readFileSync(0, 'utf8'))) {
  try {
    const session = await ort.InferenceSession.create(job.model, options);
    const feed = {};
    for (const x of job.inputs) {
      const b = readFileSync(x.file);
      feed[x.name] = new ort.Tensor(x.dtype, new ARRAY[x.dtype](b.buffer.slice(b.byteOffset, b.byteOffset + b.length)), x.shape);
    }
    const got = await session.run(feed);
    session.outputNames.forEach((name, i) => {
      const d = got[name].data;
      writeFileSync(job.out + i, new Uint8Array(d.buffer, d.byteOffset, d.byteLength));
    });
  } catch (e) {
    console.error(`${job.model}: ${e.message}`);
    process.exitCode = 1;
  }
}
