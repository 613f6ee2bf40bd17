plugins {
    alias(libs.plugins.android.library)
    `maven-publish`
}

group = "dev.hearpack"
version = "0.1.0"

android {
    namespace = "hearpack.android"
    compileSdk {
        version = release(37) { minorApiLevel = 0 }
    }

    defaultConfig {
        minSdk = 26
    }

    compileOptions {
        sourceCompatibility = JavaVersion.VERSION_11
        targetCompatibility = JavaVersion.VERSION_11
    }

    publishing {
        singleVariant("release") {
            withSourcesJar()
        }
    }
}

dependencies {
    api(project(":core"))
    api(libs.coroutines)
    implementation(libs.litert)
}

publishing {
    publications {
        register<MavenPublication>("release") {
            artifactId = "hearpack"
            afterEvaluate { from(components["release"]) }
        }
    }
    repositories {
        maven {
            name = "local"
            url = uri(rootProject.layout.buildDirectory.dir("maven"))
        }
    }
}
