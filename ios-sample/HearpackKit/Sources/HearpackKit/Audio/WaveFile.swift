import Foundation

/// Mono float32 samples as the bytes of a WAV file, for players.
public func waveFile(_ samples: [Float], sampleRateHz: Int) -> Data {
    var data = Data()
    func add<Number: FixedWidthInteger>(_ number: Number) {
        withUnsafeBytes(of: number.littleEndian) { data.append(contentsOf: $0) }
    }
    let bytes = UInt32(4 * samples.count)
    data.append(contentsOf: Array("RIFF".utf8))
    add(36 + bytes)
    data.append(contentsOf: Array("WAVEfmt ".utf8))
    add(UInt32(16))
    add(UInt16(3))  // IEEE float
    add(UInt16(1))
    add(UInt32(sampleRateHz))
    add(UInt32(4 * sampleRateHz))
    add(UInt16(4))
    add(UInt16(32))
    data.append(contentsOf: Array("data".utf8))
    add(bytes)
    for sample in samples { add(sample.bitPattern) }
    return data
}
