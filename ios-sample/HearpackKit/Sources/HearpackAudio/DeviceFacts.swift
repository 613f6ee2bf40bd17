#if canImport(AVFoundation) && !os(macOS)
@preconcurrency import AVFoundation
import Foundation
import HearpackKit

/// What a trace says of the device: no serial number, no name given by the user, no wall-clock time.
enum DeviceFacts {
    static var app: DeviceTrace.App {
        let version = Bundle.main.object(forInfoDictionaryKey: "CFBundleShortVersionString") as? String ?? "0.1.0"
        #if DEBUG
        return DeviceTrace.App(name: "hearpack-ios", version: version, build: "debug")
        #else
        return DeviceTrace.App(name: "hearpack-ios", version: version, build: "release")
        #endif
    }

    static var device: DeviceTrace.Device {
        let process = ProcessInfo.processInfo
        let version = process.operatingSystemVersion
        #if targetEnvironment(simulator)
        let emulated = true
        #else
        let emulated = false
        #endif
        return DeviceTrace.Device(
            manufacturer: "Apple", model: machine(), os: "ios",
            osVersion: "\(version.majorVersion).\(version.minorVersion)", emulated: emulated,
            cores: process.processorCount, memoryBytes: Int(clamping: process.physicalMemory),
            lowPowerMode: process.isLowPowerModeEnabled)
    }

    static var thermal: DeviceTrace.Thermal.State {
        switch ProcessInfo.processInfo.thermalState {
        case .nominal: return .nominal
        case .fair: return .fair
        case .serious: return .serious
        case .critical: return .critical
        @unknown default: return .unknown
        }
    }

    /// For instance iPhone16,2.
    private static func machine() -> String {
        var name = utsname()
        guard uname(&name) == 0 else { return "unknown" }
        return withUnsafeBytes(of: &name.machine) { raw in
            String(decoding: raw.prefix { $0 != 0 }, as: UTF8.self)
        }
    }
}
#endif
