extension PlayoutRing {
    /// Samples at the device's rate to hold before playing; without `playout` in the manifest one buffer of the model and
    /// one block of the device.
    public static func prefill(_ manifest: Manifest, deviceRateHz: Int, deviceBlock: Int) -> Int {
        let rate = manifest.geometry.sampleRateHz
        if let playout = manifest.playout { return (playout.prefillSamples * deviceRateHz + rate - 1) / rate }
        return (manifest.buffer.samples * deviceRateHz + rate - 1) / rate + deviceBlock
    }

    /// How far a level may wander: a quarter of a buffer (`hop`, at the device's rate), at most 5 ms.
    ///
    /// - Parameter block: frames of the device's longest callback, as far as it is known.
    public static func deadband(hop: Int, block: Int, rateHz: Int) -> Int { min(max(hop / 4, block / 16), rateHz / 200) }
}
