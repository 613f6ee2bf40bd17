import XCTest

@testable import HearpackKit

final class StreamLoopTests: XCTestCase {
    private func run(_ loop: StreamLoop, _ samples: [Float], block: Int) throws -> (ends: [Int], values: [[Float]]) {
        var ends: [Int] = []
        var values: [[Float]] = []
        func take(_ end: Int, _ new: UnsafeBufferPointer<Float>) {
            ends.append(end)
            values.append(Array(new))
        }
        for start in stride(from: 0, to: samples.count, by: block) {
            try Array(samples[start..<min(start + block, samples.count)]).withUnsafeBufferPointer { try loop.push($0, take) }
        }
        try loop.flush(take)
        return (ends, values)
    }

    func testStepNetGivesDelayAndCutsAtTheEnd() throws {
        let manifest = try manifest()
        for block in [1, 3, 4, 9] {
            let engine = FakeEngine(echo: manifest)
            let loop = try StreamLoop(manifest, engine)
            let (ends, values) = try run(loop, (1...9).map(Float.init), block: block)
            XCTAssertEqual(values.flatMap { $0 }, [1, 2, 3, 4, 5, 6, 7, 8, 9, 0, 0, 0, 0, 0, 0], "9 in, delay 6: 15 out")
            XCTAssertEqual(ends, [4, 8, 12, 15])
            XCTAssertEqual(loop.inSamples, 9)
            XCTAssertEqual(loop.calls, 4)
            XCTAssertEqual(loop.state.tensors, [[4, 7]])
        }
    }

    func testStateIsAValue() throws {
        let manifest = try manifest()
        let loop = try StreamLoop(manifest, FakeEngine(echo: manifest))
        try [1, 2, 3, 4].withUnsafeBufferPointer { try loop.push($0) { _, _ in } }
        let kept = loop.state
        try [1, 2, 3, 4, 5, 6, 7, 8].withUnsafeBufferPointer { try loop.push($0) { _, _ in } }
        XCTAssertEqual(kept.tensors, [[1, 7]], "a copy does not change under its holder")
        XCTAssertEqual(loop.state.tensors, [[3, 7]])
        try loop.reset()
        XCTAssertEqual(loop.state.tensors, [[0, 0]])
    }

    func testWindowsOverlapAndTheLastIsPaddedOnce() throws {
        for (hop, samples, expected) in [
            (2, 7, [[1, 2, 3, 4], [3, 4, 5, 6], [5, 6, 7, 0]]),
            (2, 6, [[1, 2, 3, 4], [3, 4, 5, 6]]),
            (4, 5, [[1, 2, 3, 4], [5, 0, 0, 0]]),
            (6, 11, [[1, 2, 3, 4], [7, 8, 9, 10]]),
            (6, 6, [[1, 2, 3, 4]]),
            (6, 8, [[1, 2, 3, 4], [7, 8, 0, 0]]),
            (2, 3, [[1, 2, 3, 0]]),
        ] as [(Int, Int, [[Float]])] {
            for block in [1, 5, 20] {
                let manifest = try windowed(hop: hop)
                let engine = FakeEngine(manifest) { _, _ in ([0, 0], []) }
                let loop = try StreamLoop(manifest, engine)
                let (ends, _) = try run(loop, (1...samples).map(Float.init), block: block)
                XCTAssertEqual(engine.blocks, expected, "hop \(hop), \(samples) samples, blocks of \(block)")
                XCTAssertEqual(ends, expected.indices.map { $0 * hop + 4 })
            }
        }
    }

    func testNothingInNothingOut() throws {
        let manifest = try manifest()
        let (ends, _) = try run(try StreamLoop(manifest, FakeEngine(echo: manifest)), [], block: 1)
        XCTAssertEqual(ends, [])
    }

    func testBadInput() throws {
        let manifest = try manifest()
        let engine = FakeEngine(echo: manifest)
        let loop = try StreamLoop(manifest, engine)
        assertThrows("sample 1 (") { try [0, .nan].withUnsafeBufferPointer { try loop.push($0) { _, _ in } } }
        XCTAssertEqual(loop.inSamples, 0, "nothing of a bad block is taken in")
        engine.failAtCall = 0
        assertThrows("the engine failed") { try [1, 2, 3, 4].withUnsafeBufferPointer { try loop.push($0) { _, _ in } } }
        assertThrows("call reset()") { try [1].withUnsafeBufferPointer { try loop.push($0) { _, _ in } } }
        engine.failAtCall = nil
        try loop.reset()
        try [1, 2, 3, 4].withUnsafeBufferPointer { try loop.push($0) { _, _ in } }
        XCTAssertEqual(loop.calls, 1)
        let other = try windowed(hop: 2)
        assertThrows("opened for another manifest") { _ = try StreamLoop(other, engine) }
    }

    func testWarmUpLeavesNoTrace() throws {
        let manifest = try manifest()
        let engine = FakeEngine(echo: manifest)
        try engine.warmUp(calls: 3)
        XCTAssertEqual(engine.blocks, [[Float]](repeating: [0, 0, 0, 0], count: 3))
        XCTAssertEqual(engine.resets, 2)
    }
}
