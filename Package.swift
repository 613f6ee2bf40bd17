// swift-tools-version:6.0
// hearpack for Swift: what a team takes into its own app, by this repository's address. No outside dependency.
//   HearpackKit     the streaming core: plain Swift, no audio framework, no model runtime
//   HearpackCoreML  the engine on Apple's systems
//   HearpackAudio   the microphone, and `Hearpack`, one object for all of it (iOS)
import PackageDescription

let sources = "ios-sample/HearpackKit/Sources/"

let package = Package(
    name: "hearpack",
    platforms: [.iOS(.v16), .macOS(.v13)],
    products: [
        .library(name: "HearpackKit", targets: ["HearpackKit"]),
        .library(name: "HearpackCoreML", targets: ["HearpackCoreML"]),
        .library(name: "HearpackAudio", targets: ["HearpackAudio"]),
    ],
    targets: [
        .target(name: "CHearpackAtomics", path: sources + "CHearpackAtomics"),
        .target(
            name: "HearpackKit", dependencies: ["CHearpackAtomics"], path: sources + "HearpackKit",
            resources: [.copy("PrivacyInfo.xcprivacy")]),
        // They compile to nothing where there is no Core ML, no AVAudioSession, no Objective-C.
        .target(name: "HearpackCoreML", dependencies: ["HearpackKit"], path: sources + "HearpackCoreML"),
        .target(name: "CHearpackTry", path: sources + "CHearpackTry"),
        .target(
            name: "HearpackAudio", dependencies: ["HearpackKit", "HearpackCoreML", "CHearpackTry"],
            path: sources + "HearpackAudio", resources: [.copy("PrivacyInfo.xcprivacy")]),
        .testTarget(
            name: "HearpackKitTests", dependencies: ["HearpackKit", "HearpackCoreML"],
            path: "ios-sample/HearpackKit/Tests/HearpackKitTests"),
    ],
    swiftLanguageModes: [.v6]
)

// LiteRT for the tests, and what the tests in Python talk to (CMallocCount takes malloc's place in that one executable).
// Only for who asks: an app that takes the package builds none of it.
if Context.environment["HEARPACK_PROBE"] != nil {
    package.targets += [
        .target(name: "CLiteRT", path: sources + "CLiteRT", linkerSettings: [.linkedLibrary("dl", .when(platforms: [.linux]))]),
        .target(name: "HearpackLiteRT", dependencies: ["HearpackKit", "CLiteRT"], path: sources + "HearpackLiteRT"),
        .target(name: "CMallocCount", path: sources + "CMallocCount"),
        .executableTarget(
            name: "kit-probe", dependencies: ["HearpackKit", "HearpackLiteRT", "CMallocCount"], path: sources + "kit-probe"),
    ]
}
