import XCTest

@testable import HearpackKit

/// What a net may be given, and how a stream goes on after output that is not finite: Python's goldens.
final class RecoveryTests: XCTestCase {
    private struct Golden: Decodable {
        struct Bound: Decodable {
            let name: String
            let input_bits: [UInt32]
            let output_bits: [UInt32]
            let nan: Int
            let limited: Int
        }
        struct Stream: Decodable {
            let name: String
            let kind: String
            let input_bits: [UInt32]
            let output_bits: [UInt32]
            let ends: [Int]
            let nan_outputs: Int
        }
        let limit: Float
        let hop: Int
        let bounds: [Bound]
        let streams: [Stream]
    }

    private func golden() throws -> Golden { try JSONDecoder().decode(Golden.self, from: try fixture("recovery/golden.json")) }

    /// The golden's net: infinite at an input of 2, and then spoilt for good.
    private func toy(_ manifest: Manifest) -> FakeEngine {
        let step = manifest.buffer.kind == .step
        return FakeEngine(manifest) { block, state in
            let y = block.map { $0 / (2 - abs($0)) }
            guard step else { return ([y[0], y[y.count - 1]], []) }
            let h = state.tensors[0][0]
            return (y.map { $0 + h }, [h * 0.5 + y[y.count - 1], 0])
        }
    }

    func testTheBoundIsTheGoldenOne() throws {
        let golden = try golden()
        XCTAssertEqual(golden.limit, InputBound.limit)
        XCTAssertGreaterThan(golden.bounds.count, 1)
        for example in golden.bounds {
            var values = example.input_bits.map(Float.init(bitPattern:))
            var bound = InputBound()
            values.withUnsafeMutableBufferPointer { bound.process($0) }
            XCTAssertEqual(bits(values), example.output_bits, example.name)
            XCTAssertEqual([bound.nanSamples, bound.limitedSamples], [example.nan, example.limited])
        }
    }

    func testStreamsGoOnAsTheGoldenOnes() throws {
        let golden = try golden()
        XCTAssertEqual(golden.streams.count, 8)
        for example in golden.streams {
            let manifest = example.kind == "step" ? try manifest() : try windowed(hop: golden.hop)
            let samples = example.input_bits.map(Float.init(bitPattern:))
            for size in [1, 3, 64] {
                let engine = toy(manifest)
                let loop = try StreamLoop(manifest, engine)
                var ends: [Int] = []
                var values: [Float] = []
                for start in stride(from: 0, to: samples.count, by: size) {
                    try Array(samples[start..<min(start + size, samples.count)]).withUnsafeBufferPointer {
                        try loop.push($0) { end, new in
                            ends.append(end)
                            values.append(contentsOf: new)
                        }
                    }
                }
                XCTAssertEqual(ends, example.ends, example.name)
                XCTAssertEqual(bits(values), example.output_bits, example.name)
                XCTAssertEqual(loop.nanOutputs, example.nan_outputs)
                XCTAssertEqual(engine.resets, 1 + example.nan_outputs)
            }
        }
    }

    func testWhoJudgesANetSeesWhatItGave() throws {
        let manifest = try manifest()
        let loop = try StreamLoop(manifest, toy(manifest), recover: false)
        var values: [Float] = []
        try [2, 0.25, 0.25, 0.25].withUnsafeBufferPointer { try loop.push($0) { _, new in values.append(contentsOf: new) } }
        XCTAssertEqual(values.filter(\.isFinite).count, 3)
        XCTAssertEqual(loop.nanOutputs, 0)
    }

    func testTheNetIsBoundedAfterTheStagesToo() {
        var chain = InputChain([.gain(db: 20)], sampleRateHz: 16_000)
        var block: [Float] = [0.1, 0.5, -0.9]
        block.withUnsafeMutableBufferPointer { chain.process($0) }
        XCTAssertEqual(Array(block[1...]), [4, -4])
        XCTAssertEqual(chain.limitedSamples, 2)
        chain.reset()
        XCTAssertEqual(chain.limitedSamples, 0)
    }

    func testTheResamplerSaturatesAtEqualRatesToo() throws {
        let resampler = try Resampler(inRateHz: 16_000, outRateHz: 16_000)
        XCTAssertEqual(try resampler.process([15_136, -15_136, 0.5]), [4, -4, 0.5])
    }
}
