// swift-tools-version:6.0
// HearpackKit: what a team takes into its own app. No outside dependency.
import PackageDescription

let package = Package(
    name: "HearpackKit",
    platforms: [.iOS(.v16), .macOS(.v13)],
    products: [
        .library(name: "HearpackKit", targets: ["HearpackKit"]),
        .library(name: "HearpackCoreML", targets: ["HearpackCoreML"]),
        .library(name: "HearpackLiteRT", targets: ["HearpackLiteRT"]),
    ],
    targets: [
        // The streaming core: plain Swift, no audio framework, no model runtime.
        .target(name: "CHearpackAtomics"),
        .target(name: "HearpackKit", dependencies: ["CHearpackAtomics"]),
        // Engines. Core ML compiles to nothing where there is none.
        .target(name: "HearpackCoreML", dependencies: ["HearpackKit"]),
        .target(name: "CLiteRT", linkerSettings: [.linkedLibrary("dl", .when(platforms: [.linux]))]),
        .target(name: "HearpackLiteRT", dependencies: ["HearpackKit", "CLiteRT"]),
        // What the tests in Python talk to; CMallocCount takes malloc's place in this one executable.
        .target(name: "CMallocCount"),
        .executableTarget(name: "kit-probe", dependencies: ["HearpackKit", "HearpackLiteRT", "CMallocCount"]),
        .testTarget(name: "HearpackKitTests", dependencies: ["HearpackKit", "HearpackLiteRT", "HearpackCoreML"]),
    ],
    swiftLanguageModes: [.v6]
)
