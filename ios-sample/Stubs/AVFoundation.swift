// A stand-in for AVFoundation and the C types it brings, for the type check on machines without it. Compile-only.
// After each declaration: the Objective-C member it stands for (as in the published typings) and since which iOS;
// tests/ios/test_stubs.py compares them with each other. C types and functions carry their header instead.
@_exported import Foundation

public typealias AVAudioFrameCount = UInt32
public typealias AVAudioNodeBus = Int
public typealias OSStatus = Int32
public struct ObjCBool { public init(_ value: Bool) {} }

public struct AudioTimeStampFlags: OptionSet, Sendable {  // header CoreAudioTypes
    public let rawValue: UInt32
    public init(rawValue: UInt32) { self.rawValue = rawValue }
    public static let sampleTimeValid = AudioTimeStampFlags(rawValue: 1)
    public static let hostTimeValid = AudioTimeStampFlags(rawValue: 2)
}

public struct AudioTimeStamp {  // header CoreAudioTypes
    public var mSampleTime: Double
    public var mHostTime: UInt64
    public var mFlags: AudioTimeStampFlags
}

public struct AudioBuffer {  // header CoreAudioTypes
    public var mNumberChannels: UInt32
    public var mDataByteSize: UInt32
    public var mData: UnsafeMutableRawPointer?
}

public struct AudioBufferList {  // header CoreAudioTypes
    public var mNumberBuffers: UInt32
    public var mBuffers: AudioBuffer
}

public func mach_absolute_time() -> UInt64 { 0 }  // header mach/mach_time

public typealias AVAudioSinkNodeReceiverBlock = (UnsafePointer<AudioTimeStamp>, AVAudioFrameCount, UnsafePointer<AudioBufferList>) -> OSStatus
public typealias AVAudioSourceNodeRenderBlock = (UnsafeMutablePointer<ObjCBool>, UnsafePointer<AudioTimeStamp>, AVAudioFrameCount, UnsafeMutablePointer<AudioBufferList>) -> OSStatus

public class AVAudioSession: NSObject {
    public struct Category: Sendable { public static let record = Category(), playAndRecord = Category(), playback = Category() }
    public struct Mode: Sendable { public static let measurement = Mode(), `default` = Mode() }
    public struct CategoryOptions: OptionSet, Sendable {
        public let rawValue: UInt
        public init(rawValue: UInt) { self.rawValue = rawValue }
        public static let allowBluetoothA2DP = CategoryOptions(rawValue: 32)  // AVAudioSessionCategoryOptions.AllowBluetoothA2DP
    }
    public struct SetActiveOptions: OptionSet, Sendable {
        public let rawValue: UInt
        public init(rawValue: UInt) { self.rawValue = rawValue }
        public static let notifyOthersOnDeactivation = SetActiveOptions(rawValue: 1)  // AVAudioSessionSetActiveOptions.NotifyOthersOnDeactivation
    }
    public struct Port: Equatable, Sendable {
        let name: String
        public static let builtInMic = Port(name: "MicrophoneBuiltIn"), headsetMic = Port(name: "MicrophoneWired")
        public static let lineIn = Port(name: "LineIn"), usbAudio = Port(name: "USBAudio"), headphones = Port(name: "Headphones")
        public static let bluetoothHFP = Port(name: "BluetoothHFP"), bluetoothA2DP = Port(name: "BluetoothA2DPOutput")
        public static let bluetoothLE = Port(name: "BluetoothLE"), lineOut = Port(name: "LineOut")
        public static let builtInSpeaker = Port(name: "Speaker"), builtInReceiver = Port(name: "Receiver")
    }
    public enum InterruptionType: UInt, Sendable {
        case began = 1  // AVAudioSessionInterruptionType.Began
        case ended = 0  // AVAudioSessionInterruptionType.Ended
    }
    public struct InterruptionOptions: OptionSet, Sendable {
        public let rawValue: UInt
        public init(rawValue: UInt) { self.rawValue = rawValue }
        public static let shouldResume = InterruptionOptions(rawValue: 1)  // AVAudioSessionInterruptionOptions.ShouldResume
    }
    public enum RouteChangeReason: UInt, Sendable {
        case unknown = 0  // AVAudioSessionRouteChangeReason.Unknown
        case newDeviceAvailable = 1  // AVAudioSessionRouteChangeReason.NewDeviceAvailable
        case oldDeviceUnavailable = 2  // AVAudioSessionRouteChangeReason.OldDeviceUnavailable
        case categoryChange = 3  // AVAudioSessionRouteChangeReason.CategoryChange
        case override = 4  // AVAudioSessionRouteChangeReason.Override
        case wakeFromSleep = 6  // AVAudioSessionRouteChangeReason.WakeFromSleep
        case noSuitableRouteForCategory = 7  // AVAudioSessionRouteChangeReason.NoSuitableRouteForCategory
        case routeConfigurationChange = 8  // AVAudioSessionRouteChangeReason.RouteConfigurationChange
    }
    public enum RecordPermission: UInt, Sendable { case undetermined, denied, granted }

    public class func sharedInstance() -> AVAudioSession { fatalError() }  // AVAudioSession.sharedInstance ios 3.0
    public func setCategory(_ category: Category, mode: Mode, options: CategoryOptions = []) throws {}  // AVAudioSession.setCategoryModeOptionsError ios 10.0
    public func setActive(_ active: Bool, options: SetActiveOptions = []) throws {}  // AVAudioSession.setActiveWithOptionsError ios 6.0
    public func setPreferredSampleRate(_ sampleRate: Double) throws {}  // AVAudioSession.setPreferredSampleRateError ios 6.0
    public func setPreferredIOBufferDuration(_ duration: TimeInterval) throws {}  // AVAudioSession.setPreferredIOBufferDurationError ios 3.0
    public func requestRecordPermission(_ response: @escaping @Sendable (Bool) -> Void) {}  // AVAudioSession.requestRecordPermission ios 7.0 deprecated
    public var sampleRate: Double { 0 }  // AVAudioSession.sampleRate ios 6.0
    public var ioBufferDuration: TimeInterval { 0 }  // AVAudioSession.IOBufferDuration ios 6.0
    public var inputLatency: TimeInterval { 0 }  // AVAudioSession.inputLatency ios 6.0
    public var outputLatency: TimeInterval { 0 }  // AVAudioSession.outputLatency ios 6.0
    public var inputGain: Float { 0 }  // AVAudioSession.inputGain ios 6.0
    public var currentRoute: AVAudioSessionRouteDescription { fatalError() }  // AVAudioSession.currentRoute ios 6.0
    public static let interruptionNotification = Notification.Name("interruption")
    public static let routeChangeNotification = Notification.Name("route")
    public static let mediaServicesWereResetNotification = Notification.Name("reset")
}

public let AVAudioSessionInterruptionTypeKey = ""  // AVAudioSessionInterruptionTypeKey
public let AVAudioSessionInterruptionReasonKey = ""  // AVAudioSessionInterruptionReasonKey ios 14.5
public let AVAudioSessionInterruptionOptionKey = ""  // AVAudioSessionInterruptionOptionKey
public let AVAudioSessionRouteChangeReasonKey = ""  // AVAudioSessionRouteChangeReasonKey

public class AVAudioApplication: NSObject {
    public class func requestRecordPermission() async -> Bool { false }  // AVAudioApplication.requestRecordPermissionWithCompletionHandler ios 17.0
}

public class AVAudioSessionRouteDescription: NSObject {
    public var inputs: [AVAudioSessionPortDescription] { [] }  // AVAudioSessionRouteDescription.inputs ios 6.0
    public var outputs: [AVAudioSessionPortDescription] { [] }  // AVAudioSessionRouteDescription.outputs ios 6.0
}

public class AVAudioSessionPortDescription: NSObject {
    public var uid: String { "" }  // AVAudioSessionPortDescription.UID ios 6.0
    public var portType: AVAudioSession.Port { .builtInMic }  // AVAudioSessionPortDescription.portType ios 6.0
}

public class AVAudioFormat: NSObject {
    public init?(standardFormatWithSampleRate: Double, channels: UInt32) { nil }  // AVAudioFormat.initStandardFormatWithSampleRateChannels
    public var sampleRate: Double { 0 }  // AVAudioFormat.sampleRate
    public var channelCount: UInt32 { 0 }  // AVAudioFormat.channelCount
}

public class AVAudioTime: NSObject {
    public class func seconds(forHostTime hostTime: UInt64) -> TimeInterval { 0 }  // AVAudioTime.secondsForHostTime
}

public class AVAudioNode: NSObject {
    public func outputFormat(forBus bus: AVAudioNodeBus) -> AVAudioFormat { fatalError() }  // AVAudioNode.outputFormatForBus
    public func inputFormat(forBus bus: AVAudioNodeBus) -> AVAudioFormat { fatalError() }  // AVAudioNode.inputFormatForBus
}

public class AVAudioInputNode: AVAudioNode {}
public class AVAudioOutputNode: AVAudioNode {}
public class AVAudioMixerNode: AVAudioNode {}

public class AVAudioSinkNode: AVAudioNode {
    public init(receiverBlock block: @escaping AVAudioSinkNodeReceiverBlock) {}  // AVAudioSinkNode.initWithReceiverBlock
}

public class AVAudioSourceNode: AVAudioNode {
    public init(format: AVAudioFormat, renderBlock block: @escaping AVAudioSourceNodeRenderBlock) {}  // AVAudioSourceNode.initWithFormatRenderBlock
}

public class AVAudioEngine: NSObject {
    public override init() {}
    public var inputNode: AVAudioInputNode { fatalError() }  // AVAudioEngine.inputNode ios 8.0
    public var outputNode: AVAudioOutputNode { fatalError() }  // AVAudioEngine.outputNode
    public var mainMixerNode: AVAudioMixerNode { fatalError() }  // AVAudioEngine.mainMixerNode
    public func attach(_ node: AVAudioNode) {}  // AVAudioEngine.attachNode
    public func connect(_ node1: AVAudioNode, to node2: AVAudioNode, format: AVAudioFormat?) {}  // AVAudioEngine.connectToFormat
    public func prepare() {}  // AVAudioEngine.prepare
    public func start() throws {}  // AVAudioEngine.startAndReturnError
    public func stop() {}  // AVAudioEngine.stop
}

public class AVAudioPlayer: NSObject {
    public init(data: Data) throws {}  // AVAudioPlayer.initWithDataError
    public var volume: Float = 0  // AVAudioPlayer.volume
    public var isPlaying: Bool { false }  // AVAudioPlayer.playing
    public var deviceCurrentTime: TimeInterval { 0 }  // AVAudioPlayer.deviceCurrentTime ios 4.0
    public func play(atTime time: TimeInterval) -> Bool { false }  // AVAudioPlayer.playAtTime ios 4.0
    public func stop() {}  // AVAudioPlayer.stop
}

extension Notification.Name {
    public static let AVAudioEngineConfigurationChange = Notification.Name("configuration")  // AVAudioEngineConfigurationChangeNotification
}

// Foundation on Linux lacks what follows.
extension ProcessInfo {
    public enum ThermalState: Int, Sendable {
        case nominal  // NSProcessInfoThermalState.Nominal
        case fair  // NSProcessInfoThermalState.Fair
        case serious  // NSProcessInfoThermalState.Serious
        case critical  // NSProcessInfoThermalState.Critical
    }
    public var thermalState: ThermalState { .nominal }  // NSProcessInfo.thermalState ios 11.0
    public var isLowPowerModeEnabled: Bool { false }  // NSProcessInfo.lowPowerModeEnabled ios 9.0
    public static let thermalStateDidChangeNotification = Notification.Name("thermal")  // NSProcessInfoThermalStateDidChangeNotification ios 11.0
}
